"""r1lite: understand DeepSeek-R1 by running it. These are the names a notebook uses."""

from .config import PRESETS, RunConfig, preset
from .evaluation import Report, evaluate, grade, pass_at_k, pass_curve
from .learn import Result, group_advantages, grpo_terms, k3, train
from .policy import Policy, load_policy, sample_groups, token_logps
from .prompt import TEMPLATES, render, split_answer
from .records import Completion, Group, Problem, StepLog, UserError
from .rewards import accuracy_reward, format_reward, is_right_leniently, is_right_output, score
from .stages.search import search_metrics
from .world import FAMILIES, check_answer, clusters, make_problems, read_problems

__version__ = "0.1.0"

__all__ = [
    "FAMILIES",
    "PRESETS",
    "TEMPLATES",
    "Group",
    "Policy",
    "Problem",
    "Report",
    "Result",
    "Completion",
    "RunConfig",
    "StepLog",
    "UserError",
    "accuracy_reward",
    "clusters",
    "evaluate",
    "format_reward",
    "grade",
    "group_advantages",
    "grpo_terms",
    "check_answer",
    "is_right_output",
    "is_right_leniently",
    "k3",
    "load_policy",
    "make_problems",
    "pass_at_k",
    "pass_curve",
    "preset",
    "read_problems",
    "render",
    "sample_groups",
    "score",
    "search_metrics",
    "split_answer",
    "token_logps",
    "train",
]
