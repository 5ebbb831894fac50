"""What an answer is worth."""

from .rules import (
    RULES,
    accuracy_reward,
    format_reward,
    is_right,
    is_right_leniently,
    overlong_penalty,
    score,
)

__all__ = [
    "RULES",
    "accuracy_reward",
    "format_reward",
    "is_right",
    "is_right_leniently",
    "overlong_penalty",
    "score",
]
