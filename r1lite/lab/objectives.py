"""The objectives of the literature after R1, as settings of RunConfig."""

from typing import Any

OBJECTIVES: dict[str, dict[str, Any]] = {
    "deepseekmath": {"objective": "deepseekmath"},
    "r1-printed": {"objective": "r1-printed"},
    # Dr. GRPO (arXiv 2503.20783): no spread, and one length for all, so that a long wrong answer
    # is not punished less per token than a short one
    "dr-grpo": {"loss_aggregation": "max_length", "advantage_scale": "none"},
    # every token of the batch counts the same
    "bnpo": {"loss_aggregation": "token_mean"},
    # DAPO (arXiv 2503.14476): that, more room upwards, and only groups that teach something
    "dapo": {
        "loss_aggregation": "token_mean",
        "clip_epsilon": 0.2,
        "clip_epsilon_high": 0.28,
        "dynamic_sampling": True,
        "overlong_buffer": 64,
    },
    # GSPO (arXiv 2507.18071): the ratio of an answer is the geometric mean of its tokens'
    "gspo": {"objective": "gspo", "clip_epsilon": 3e-4, "clip_epsilon_high": 4e-4},
    # CISPO (arXiv 2506.13585): a cut ratio is a weight, and the token goes on being trained
    "cispo": {"objective": "cispo", "loss_aggregation": "token_mean"},
}
