"""Templates on the way in, tags on the way out."""

from .answer import TAGS, last_answer, split_answer
from .formats import (
    FORMATS,
    R1_ZERO,
    R1_ZERO_TEMPLATE,
    TEMPLATES,
    TINY_TEMPLATE,
    Format,
    format_of,
    get_format,
    parse,
    question_of,
    read_behind,
    render,
)
