"""Answers written by one process a core, each with one thread (small models on a CPU, Linux).

A token step of a small model is many short operations. Threads that divide each of them wait for
one another at its end, and read what lies in the other's cache. Processes with prompts of their own
do neither.
"""

import contextlib
import ctypes
import multiprocessing
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from typing import Any

import torch

from .. import dist
from ..records import Completion
from .adapters import trainable
from .load import Policy
from .sample import ROWS_AT_ONCE, write_answers
from .savings import SAVINGS, saves, without

ROWS_EACH = 32  # answers that make a process worth while
MOST_WEIGHTS = 2**24  # products of larger models keep all threads busy, and each copy takes memory


@contextlib.contextmanager
def one_thread_each(policy: Policy, n_rows: int) -> Iterator[Policy]:
    """The policy, and inside each core writes a share of n_rows answers, where that is worth it."""
    n = min(torch.get_num_threads(), n_rows // ROWS_EACH)
    small = sum(p.numel() for p in policy.model.parameters()) <= MOST_WEIGHTS
    alone = policy.engine is None and not dist.is_distributed()
    if n < 2 or not small or not alone or policy.device.type != "cpu" or sys.platform != "linux":
        yield policy
        return
    ctypes.CDLL(None).malloc_trim(0)  # what is free here would be copied when it is used again
    pool = ProcessPoolExecutor(n - 1, multiprocessing.get_context("fork"), _begin, (policy,))
    try:
        yield replace(policy, engine=Writers(policy, pool, n))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # an error waits for no answer


@dataclass
class Writers:
    """This process and n - 1 copies of it, each with a share of the prompts.

    Copies are forked at the first rollout, and get the weights of now with their share.
    """

    policy: Policy
    pool: ProcessPoolExecutor
    n: int
    rows_at_once = ROWS_AT_ONCE

    def write(self, prompts: Any, keys: Any, group_size: int, *how: Any) -> list[Completion]:
        """What sample.write_answers returns; where a process is lost, it goes on alone."""
        n = min(self.n, len(prompts)) if saves("one_thread_each") else 1
        shares = [(prompts[i::n], keys[i::n], group_size, *how) for i in range(n)]
        weights = [p.detach().numpy() for p in trainable(self.policy.model).values()]
        off, threads = [name for name in SAVINGS if not saves(name)], torch.get_num_threads()
        try:
            others = [self.pool.submit(_write, weights, off, share) for share in shares[1:]]
            torch.set_num_threads(1 if others else threads)
            parts = [write_answers(self.policy, *shares[0]), *(x.result() for x in others)]
        except BrokenProcessPool:  # short of memory, most often
            self.n = n = 1
            parts = [write_answers(self.policy, prompts, keys, group_size, *how)]
        finally:
            torch.set_num_threads(threads)
        at = [(parts[i % n], i // n * group_size) for i in range(len(prompts))]
        return [answer for part, first in at for answer in part[first : first + group_size]]


def _begin(policy: Policy) -> None:
    global _policy
    _policy = policy
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # sent when the parent dies
    torch.set_num_threads(1)  # others have not been forked


@torch.no_grad()
def _write(weights: Sequence[Any], off: Sequence[str], share: tuple[Any, ...]) -> list[Completion]:
    for mine, weight in zip(trainable(_policy.model).values(), weights):
        mine.copy_(torch.from_numpy(weight))
    with without(*off):
        return write_answers(_policy, *share)
