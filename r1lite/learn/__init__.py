"""Objective, batching and the loop."""

from .grpo import train
from .objective import group_advantages, grpo_loss, grpo_terms, k3
from .run import Every, Result
from .sft import train_sft
