"""Templates on the way in, tags on the way out."""

from .answer import Answer, last_answer, split_answer
from .template import R1_ZERO_TEMPLATE, TEMPLATES, TINY_TEMPLATE, render
