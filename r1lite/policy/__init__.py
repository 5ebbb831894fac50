"""The model that acts: loading it, sampling from it, scoring what it wrote."""

from .load import TINY_BASE, Policy, load_policy, save_policy
from .logprobs import token_logps
from .sample import generate, sample_groups
