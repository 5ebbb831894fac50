"""The same answers and gradients in less time, for Qwen2 and Llama on a CPU. May stay closed.

Here, and nowhere else, it is chosen what samples and what computes log-probabilities: two seams,
behind which all other models, GPUs and settings take the plain way of policy/.
"""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from ..policy import sample
from ..policy.load import Policy
from ..policy.logprobs import AnswerLogps
from ..records import Group, Problem
from .decoder import FusedSampler
from .fused import supports_fused
from .optimizations import OPTIMIZATIONS, disabled, is_enabled
from .packed import PACK_UP_TO
from .shared_prompts import PackedLogps, supports_packed
from .workers import Workers, useful_workers


@contextlib.contextmanager
def sampling(policy: Policy, n_rows: int, wanted: bool = True) -> Iterator[Policy]:
    """The policy with the fastest engine for n_rows answers; as it is where none fits, or where it
    is not wanted (`fast=False`)."""
    if not wanted or policy.engine is not None or not supports_fused(policy.model):
        yield policy
        return
    sampler, n = FusedSampler(policy), useful_workers(policy, n_rows)
    engine = sampler if n < 2 else Workers(sampler, n)
    try:
        yield replace(policy, engine=engine)
    finally:
        engine.close()


@functools.wraps(sample.sample_groups)
def sample_groups(
    policy: Policy, problems: Sequence[Problem], *, group_size: int, **settings: Any
) -> list[Group]:
    with sampling(policy, len(problems) * group_size) as sampler:
        return sample.sample_groups(sampler, problems, group_size=group_size, **settings)


def answer_logps(model: Any, rows: Sequence[Any], pad_id: int, temperature: float) -> AnswerLogps:
    """What computes log-probabilities of these rows (learn.batching.Row) under the model of now."""
    packs = rows and is_enabled("packed_training") and max(map(len, rows)) <= PACK_UP_TO
    if packs and supports_packed(model):
        return PackedLogps(model, rows, pad_id, temperature)
    return AnswerLogps(model, rows, pad_id, temperature)
