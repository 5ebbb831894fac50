"""r1lite: understand DeepSeek-R1 by running it. These are the names a notebook uses."""

from .config import PRESETS, RunConfig, preset
from .evaluate import Report, evaluate, grade, pass_at_k, pass_curve
from .learn import Result, group_advantages, grpo_terms, k3, train
from .policy import Policy, load_policy, sample_groups, token_logps
from .prompt import TEMPLATES, render, split_answer
from .records import Group, Problem, Rollout, StepLog, UserError
from .rewards import accuracy_reward, format_reward, is_right, is_right_leniently, score
from .stages.search import search_figures
from .world import FAMILIES, clusters, is_correct, make_problems, read_problems

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
    "Rollout",
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
    "is_correct",
    "is_right",
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
    "search_figures",
    "split_answer",
    "token_logps",
    "train",
]
