"""Ways to a faster step that were tried and left out; measures each again, interleaved.

python tests/tried.py     (about four minutes on two cores, alone on the machine)

Writes the part "tried" of data/recorded/bench.json, from which the README says what was tried.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager as Context
from statistics import median
from typing import Any

import torch
from conftest import minibatches, update

from r1lite.lab.bench import bench_config, keep
from r1lite.lab.report import redraw_bench
from r1lite.learn.optimizer import make_optimizer
from r1lite.learn.rollout import draw_problems, sample
from r1lite.policy import Policy, decoder, load_policy
from r1lite.policy.savings import without
from r1lite.rewards import score

ROUNDS = 5  # the first warms up
FEW = 32  # rows
cfg = bench_config()


@contextlib.contextmanager
def one_thread_for_few_rows() -> Iterator[None]:
    """Decoding steps of a few rows by one thread: they are short, and threads have to meet."""
    step, n = decoder.WrittenOut.step, torch.get_num_threads()

    def by_rows(self: Any, tokens: torch.Tensor) -> torch.Tensor:
        torch.set_num_threads(1 if len(tokens) <= FEW else n)
        return step(self, tokens)

    decoder.WrittenOut.step = by_rows
    try:
        yield
    finally:
        decoder.WrittenOut.step = step
        torch.set_num_threads(n)


@contextlib.contextmanager
def bfloat16_products() -> Iterator[None]:
    """Products of training in bfloat16, the weights in float32."""
    with mkl(), torch.autocast("cpu", torch.bfloat16):
        yield


def compiled(policy: Policy, parts: tuple[str, ...]) -> Policy:
    """A policy whose layers, or these parts of them, are compiled."""
    for layer in policy.model.model.layers:
        for part in [getattr(layer, name) for name in parts] or [layer]:
            part.compile(dynamic=True)
    return policy


def mkl() -> Context:
    return without("onednn_products", "packed_training")


def seconds(work: Callable[[int], None], i: int) -> float:
    begun = time.perf_counter()
    work(i)
    return time.perf_counter() - begun


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:  # or it would find what it compiled last time
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        measure()


def measure() -> None:
    def policy() -> Policy:
        return load_policy(cfg.model, device="cpu")

    plain = policy()
    rollouts = [
        score(sample(plain, draw_problems(cfg, i), cfg, i), cfg.reward_weights)
        for i in range(ROUNDS)
    ]
    norms = ("mlp", "input_layernorm", "post_attention_layernorm")

    def train_with(who: Policy, how: Callable[[], Context]) -> Callable[[int], None]:
        optimizer = make_optimizer(who, cfg)

        def work(i: int) -> None:
            who.model.train()
            with how():
                update(who, minibatches(rollouts[i], cfg, 1)[0], optimizer, cfg, 1)

        return work

    def write_with(how: Callable[[], Context]) -> Callable[[int], None]:
        def work(i: int) -> None:
            with how():
                sample(plain, draw_problems(cfg, i), cfg, i)

        return work

    nothing = contextlib.nullcontext
    training, writing = train_with(policy(), nothing), write_with(nothing)
    tried = {  # what was tried -> with it, without it
        # it cannot look into the mode that takes oneDNN's products, so it goes without
        "torch.compile of MLPs and norms": (train_with(compiled(policy(), norms), mkl), training),
        "torch.compile of whole layers": (train_with(compiled(policy(), ()), mkl), training),
        "training products in bfloat16, after which the first ratio is no longer 1": (
            train_with(policy(), bfloat16_products), training
        ),
        f"one thread for decoding steps of at most {FEW} rows": (
            write_with(one_thread_for_few_rows), writing
        ),
    }  # fmt: skip
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in tried}
    for i in range(ROUNDS):
        for name, pair in tried.items():
            for work, kept in zip(pair, times[name]):
                kept.append(seconds(work, i))
    found = {
        name: {"with_s": median(on[1:]), "without_s": median(off[1:]), "first_s": on[0]}
        for name, (on, off) in times.items()
    }
    keep("tried", found, cfg, command="python tests/tried.py")
    for name, row in found.items():
        print(name, {key: round(value, 3) for key, value in row.items()})
    redraw_bench()


if __name__ == "__main__":
    main()
