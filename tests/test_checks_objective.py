"""Answers to the exercises of notebook 04: test_checks.py takes them all to the checks."""

import torch

from r1lite import group_advantages
from r1lite import k3 as library_k3


def _advantages(rewards):
    return (rewards - rewards.mean(-1, keepdim=True)) / (
        rewards.std(-1, unbiased=False, keepdim=True) + 1e-8
    )


def _gain(ratio, advantage, epsilon):
    return torch.minimum(
        ratio * advantage, torch.clamp(ratio, 1 - epsilon, 1 + epsilon) * advantage
    )


def _gain_by_loop(ratio, advantage, epsilon):
    gains = []
    for r, a in zip(ratio, advantage):
        limit = 1 + epsilon if a > 0 else 1 - epsilon
        is_past = r > limit if a > 0 else r < limit
        gains.append(limit * a + 0 * r if is_past else r * a)
    return torch.stack(gains)


def _inverted(ratio, advantage, epsilon):
    plain, clipped = ratio * advantage, ratio.clamp(1 - epsilon, 1 + epsilon) * advantage
    return torch.where(advantage >= 0, torch.minimum(plain, clipped), torch.maximum(plain, clipped))


RIGHT = {
    "advantages": [_advantages, group_advantages],
    "clipped_gain": [_gain, _gain_by_loop],
    "clip_counterexample": [(0.5, -1.0), (1.5, -1.0)],
    "k3": [library_k3, lambda new, ref: (ref - new).exp() - (ref - new) - 1],
}

WRONG = {
    "advantages": {
        "sample std": lambda r: (r - r.mean(-1, True)) / (r.std(-1, keepdim=True) + 1e-4),
        "sign flipped": lambda r: -_advantages(r),
        "mean over all groups": lambda r: (r - r.mean()) / (r.std(unbiased=False) + 1e-4),
        "mean over problems": lambda r: (r - r.mean(0)) / (r.std(0, unbiased=False) + 1e-4),
        "no scaling": lambda r: r - r.mean(-1, True),
        "variance": lambda r: (r - r.mean(-1, True)) / (r.var(-1, False, keepdim=True) + 1e-4),
        "NaN in equal groups": lambda r: (r - r.mean(-1, True)) / r.std(-1, False, keepdim=True),
        "one group": lambda r: _advantages(r)[0],
    },
    "clipped_gain": {
        "inverted for negative advantages": _inverted,
        "maximum": lambda r, a, e: torch.maximum(r * a, r.clamp(1 - e, 1 + e) * a),
        "no minimum": lambda r, a, e: r.clamp(1 - e, 1 + e) * a,
        "no clip": lambda r, a, e: r * a,
        "sign flipped": lambda r, a, e: -_gain(r, a, e),
        "upper bound only": lambda r, a, e: torch.minimum(r * a, r.clamp(max=1 + e) * a),
        "epsilon fixed": lambda r, a, e: _gain(r, a, 0.2),
        "no gradient": lambda r, a, e: _gain(r.detach(), a, e),
    },
    "clip_counterexample": {
        "positive, above": (1.5, 1.0),
        "positive, below": (0.5, 1.0),
        "inside the band": (1.1, -1.0),
        "ratio 1": (1.0, -1.0),
        "no probability": (-0.5, -1.0),
        "no pair": 0.5,
    },
    "k3": {
        "upside down": lambda new, ref: library_k3(ref, new),
        "k1": lambda new, ref: new - ref,
        "minus k1": lambda new, ref: ref - new,
        "k2": lambda new, ref: (new - ref).square() / 2,
        "no - 1": lambda new, ref: (ref - new).exp() - (ref - new),
        "mean": lambda new, ref: library_k3(new, ref).mean(),
    },
}

LESSONS = {
    ("advantages", "sample std"): "sample standard deviation",
    ("advantages", "NaN in equal groups"): "equal rewards",
    ("clipped_gain", "inverted for negative advantages"): "clip is inverted",
    ("k3", "upside down"): "upside down",
}
