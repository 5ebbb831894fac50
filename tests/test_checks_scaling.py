"""Answers to the exercises of notebook 14: test_checks.py takes them all to the checks."""

import math

RIGHT = {
    "adapter_size": [
        lambda shapes, rank: sum(rank * (out + into) for out, into in shapes),
        lambda shapes, rank: rank * sum(map(sum, shapes)),
    ],
    "state_gib": [
        lambda n_frozen, n_trained: (2 * n_frozen + 16 * n_trained) / 2**30,
        lambda n_frozen, n_trained: (n_frozen * 2 + n_trained * (4 + 4 + 8)) / 1024**3,
    ],
    "global_loss": [
        lambda sums, counts: sum(sums) / sum(counts),
        lambda sums, counts: math.fsum(s / sum(counts) for s in sums),
    ],
    "truncated_weight": [
        lambda trainer, sampler, cap: min(math.exp(trainer - sampler), cap),
        lambda trainer, sampler, cap: math.exp(min(trainer - sampler, math.log(cap))),
    ],
}

WRONG = {
    "adapter_size": {
        "the matrices": lambda shapes, rank: sum(a * b for a, b in shapes),
        "A alone": lambda shapes, rank: rank * sum(b for _, b in shapes),
        "B alone": lambda shapes, rank: rank * sum(a for a, _ in shapes),
        "rank 1": lambda shapes, rank: sum(map(sum, shapes)),
        "thick": lambda shapes, rank: rank * sum(a * b for a, b in shapes),
        "first only": lambda shapes, rank: rank * sum(shapes[0]),
    },
    "state_gib": {
        "no moments": lambda f, t: (2 * f + 8 * t) / 2**30,
        "one moment": lambda f, t: (2 * f + 12 * t) / 2**30,
        "frozen in float32": lambda f, t: (4 * f + 16 * t) / 2**30,
        "all trained": lambda f, t: 16 * (f + t) / 2**30,
        "bytes": lambda f, t: 2 * f + 16 * t,
        "GB": lambda f, t: (2 * f + 16 * t) / 1e9,
        "a constant": lambda f, t: 3.0,
    },
    "global_loss": {
        "mean of means": lambda s, c: sum(a / b for a, b in zip(s, c)) / len(s),
        "sum of means": lambda s, c: sum(a / b for a, b in zip(s, c)),
        "by processes": lambda s, c: sum(s) / len(s),
        "a sum": lambda s, c: sum(s),
        "the empty one left out, mean of means": lambda s, c: (
            sum(a / b for a, b in zip(s, c) if b) / len(s)
        ),
    },
    "truncated_weight": {
        "no cap": lambda t, s, cap: math.exp(t - s),
        "reversed": lambda t, s, cap: min(math.exp(s - t), cap),
        "no exp": lambda t, s, cap: min(t - s, cap),
        "both sides": lambda t, s, cap: max(1 / cap, min(math.exp(t - s), cap)),
        "cap on the logarithm": lambda t, s, cap: math.exp(min(t - s, cap)),
        "masked": lambda t, s, cap: math.exp(t - s) if math.exp(t - s) <= cap else 0.0,
    },
}

LESSONS = {
    ("adapter_size", "the matrices"): "those are the matrices themselves",
    ("state_gib", "one moment"): "two moments",
    ("global_loss", "mean of means"): "weigh as much as the six",
    ("truncated_weight", "reversed"): "trainer over sampler",
    ("truncated_weight", "masked"): "thrown away",
}
