"""Checkers for the exercises: `check.advantages(mine)` under each stub.

Each compares with numbers worked out on paper (written there as constants), never with what the
learner's own code gives elsewhere. A stub that is still None is no error, so a whole notebook
always runs to its end; a wrong answer raises AssertionError with a message that says what it is.
"""

from .objective import advantages, clip_counterexample, clipped_gain, k3
from .rewards import cheat, four_rewards, pass_at_1, uses_each_once
from .runs import answer_mask, interval, kept, reflection_rates
from .thinking import (
    count_words,
    given_reflection,
    language_share,
    pass_at_k,
    second_attempts,
)

__all__ = [
    "advantages",
    "answer_mask",
    "cheat",
    "clip_counterexample",
    "clipped_gain",
    "count_words",
    "four_rewards",
    "given_reflection",
    "interval",
    "k3",
    "kept",
    "language_share",
    "pass_at_1",
    "pass_at_k",
    "reflection_rates",
    "second_attempts",
    "uses_each_once",
]
