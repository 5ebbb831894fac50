"""Objective, batching and the loop."""

from .grpo import Result, train
from .objective import group_advantages, grpo_terms, k3
