"""Answers sampled by one process a core, each with one thread (small models on a CPU, Linux).

A token step of a small model is many short operations. Threads that divide each of them wait for
one another at its end, and read what lies in the other's cache. Processes with prompts of their own
do neither.
"""

import ctypes
import multiprocessing
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import torch

from .. import dist
from ..policy.adapters import trainable
from ..policy.engine import Sampling
from ..policy.load import Policy
from ..policy.sample import ROWS_AT_ONCE
from ..records import Completion
from .decoder import FusedSampler
from .optimizations import OPTIMIZATIONS, disabled, is_enabled

ROWS_EACH = 32  # answers that make a process worth while
MOST_WEIGHTS = 2**24  # products of larger models keep all threads busy, and each copy takes memory


def useful_workers(policy: Policy, n_rows: int) -> int:
    """How many processes are worth while for n_rows answers; below 2: none beside this one."""
    small = sum(p.numel() for p in policy.model.parameters()) <= MOST_WEIGHTS
    if not small or dist.is_distributed() or sys.platform != "linux":
        return 1
    return min(torch.get_num_threads(), n_rows // ROWS_EACH)


class Workers:
    """An engine: this process and n - 1 copies of it, each with a share of the prompts.

    Copies are forked at the first rollout, and get the weights of now with their share.
    """

    rows_at_once = ROWS_AT_ONCE

    def __init__(self, sampler: FusedSampler, n: int):
        self.sampler, self.n = sampler, n
        ctypes.CDLL(None).malloc_trim(0)  # what is free here would be copied when it is used again
        fork = multiprocessing.get_context("fork")
        self.pool = ProcessPoolExecutor(n - 1, fork, _begin, (sampler,))

    def generate(self, prompts: Any, keys: Any, how: Sampling) -> list[Completion]:
        """What the sampler alone would give; where a process is lost, it goes on alone."""
        n = min(self.n, len(prompts)) if is_enabled("workers") else 1
        shares = [(prompts[i::n], keys[i::n], how) for i in range(n)]
        weights = [p.detach().numpy() for p in trainable(self.sampler.policy.model).values()]
        off, threads = [o for o in OPTIMIZATIONS if not is_enabled(o)], torch.get_num_threads()
        try:
            others = [self.pool.submit(_work, weights, off, share) for share in shares[1:]]
            torch.set_num_threads(1 if others else threads)
            parts = [self.sampler.generate(*shares[0]), *(x.result() for x in others)]
        except BrokenProcessPool:  # short of memory, most often
            self.n = n = 1
            parts = [self.sampler.generate(prompts, keys, how)]
        finally:
            torch.set_num_threads(threads)
        size = how.group_size
        at = [(parts[i % n], i // n * size) for i in range(len(prompts))]
        return [answer for part, first in at for answer in part[first : first + size]]

    def update(self, model: Any) -> None:
        """Weights travel with each share."""

    def close(self) -> None:
        """End the other processes; an error waits for no answer."""
        self.pool.shutdown(wait=False, cancel_futures=True)


def _begin(sampler: FusedSampler) -> None:
    global _sampler
    _sampler = sampler
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a broken pool ends its processes by it
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # sent when the parent dies
    torch.set_num_threads(1)  # others have not been forked


@torch.no_grad()
def _work(weights: Sequence[Any], off: Sequence[str], share: tuple[Any, ...]) -> list[Completion]:
    for mine, weight in zip(trainable(_sampler.policy.model).values(), weights):
        mine.copy_(torch.from_numpy(weight))
    with disabled(*off):
        return _sampler.generate(*share)
