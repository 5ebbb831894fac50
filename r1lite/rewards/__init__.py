"""What an answer is worth."""

from ..world import CHECKERS, Checker, add_checker, check_answer
from .calls import chat_columns, plain_columns
from .code import code_reward, use_sandbox
from .language import language_consistency, language_reward
from .maths import maths_reward, unpayable
from .reward import Reward, RewardFunction
from .rules import (
    RULES,
    accuracy_reward,
    format_reward,
    is_right_answer,
    is_right_leniently,
    is_right_output,
    overlong_penalty,
)
from .scoring import as_rewards, call_rewards, score
