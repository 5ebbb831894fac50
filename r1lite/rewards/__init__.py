"""What an answer is worth."""

from .calls import Reward, call_rewards, plain_columns
from .code import code_reward, use_sandbox
from .language import language_consistency, language_reward
from .maths import maths_reward
from .rules import (
    RULES,
    accuracy_reward,
    format_reward,
    is_right_leniently,
    is_right_output,
    overlong_penalty,
    score,
)
