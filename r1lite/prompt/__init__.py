"""Templates on the way in, tags on the way out."""

from ..records import Answer
from .answer import last_answer, split_answer
from .formats import (
    FORMATS,
    R1_TEMPLATE,
    R1_ZERO,
    R1_ZERO_TEMPLATE,
    TEMPLATES,
    TINY_TEMPLATE,
    Format,
    get_format,
    parse,
    prompt_of,
    render,
)
