"""Checkers for the exercises: `check.advantages(mine)` under each stub.

Each compares with numbers worked out on paper (written there as constants), never with what the
learner's own code gives elsewhere. A stub that is still None is no error, so a whole notebook
always runs to its end; a wrong answer raises AssertionError with a message that says what it is.
"""

from .gradients import faulty_line, gae, gradient_variance, log_slopes
from .objective import advantages, clip_counterexample, clipped_gain, k3
from .rewards import cheat, four_rewards, pass_at_1, uses_each_once
from .runs import answer_mask, interval, kept, reflection_rates
from .template import as_written, fill_template, gain_parts, strict_answer
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
    "as_written",
    "cheat",
    "clip_counterexample",
    "clipped_gain",
    "count_words",
    "faulty_line",
    "fill_template",
    "four_rewards",
    "gae",
    "gain_parts",
    "given_reflection",
    "gradient_variance",
    "interval",
    "k3",
    "kept",
    "language_share",
    "log_slopes",
    "pass_at_1",
    "pass_at_k",
    "reflection_rates",
    "second_attempts",
    "strict_answer",
    "uses_each_once",
]
