"""Answers to the exercises of notebooks 00 and 05: test_checks.py takes them all to the checks."""

import math
from collections import Counter
from statistics import mean, stdev

import torch

from r1lite.learn.batching import Row, to_batch


def _mask(n_prompt, n_answer, length):
    return [[p - 1 <= i < p - 1 + a for i in range(length - 1)] for p, a in zip(n_prompt, n_answer)]


def _library_mask(n_prompt, n_answer, length):
    rows = [Row([1] * p, [1] * a, [0.0] * a, 0.0) for p, a in zip(n_prompt, n_answer)]
    return to_batch(rows, pad_id=0).response_mask


def _interval(values):
    mean = sum(values) / len(values)
    variance = sum((v - mean) ** 2 for v in values) / (len(values) - 1)
    return 1.96 * math.sqrt(variance / len(values))


def _pstd(values):
    mean = sum(values) / len(values)
    return math.sqrt(sum((v - mean) ** 2 for v in values) / len(values))


HONEST = "<think> 8 - 2 = 6 </think> <answer> ( 8 - 2 ) * 4 </answer>"
CHEAT = "<think> 24 </think> <answer> 24 </answer>"

RIGHT = {
    "four_rewards": [[1.2, 1.2, 0.2, 0], (1.2, 1.2, 0.2, 0.0)],
    "uses_each_once": [
        lambda used, given: sorted(used) == sorted(given),
        lambda used, given: Counter(used) == Counter(given),
    ],
    "pass_at_1": [
        lambda right: sum(sum(r) / len(r) for r in right) / len(right),
        lambda right: mean(r.count(True) / len(r) for r in right),
    ],
    "cheat": [CHEAT, "<think> a </think> <answer> 12 + 12 </answer>"],
    "informative_groups": [
        lambda rewards: sum(len(set(g)) > 1 for g in rewards) / len(rewards),
        lambda rewards: sum(min(g) < max(g) for g in rewards) / len(rewards),
    ],
    "answer_mask": [_mask, _library_mask, lambda *a: torch.tensor(_mask(*a))],
    "interval": [_interval, lambda values: 1.96 * stdev(values) / math.sqrt(len(values))],
    "reflection_rates": [
        lambda m, t: (sum(m) / len(m), 1000 * sum(m) / sum(t)),
        lambda m, t: [mean(m), 1000 * mean(m) / mean(t)],
    ],
}

WRONG = {
    "four_rewards": {
        "D paid although its tags are broken": [1.2, 1.2, 0.2, 1.0],
        "no format reward": [1, 1, 0, 0],
        "format alone unpaid": [1.2, 1.2, 0, 0],
        "paper's equal weights": [2, 2, 1, 0],
        "too few": [1.2, 1.2, 0.2],
        "no numbers": "1.2 1.2 0.2 0",
    },
    "uses_each_once": {
        "as sets": lambda used, given: set(used) == set(given),
        "subset": lambda used, given: set(used) <= set(given),
        "as many": lambda used, given: len(used) == len(given),
        "same sum": lambda used, given: sum(used) == sum(given),
        "same order": lambda used, given: used == given,
        "anything": lambda used, given: True,
        "crashes": lambda used, given: used.given,
    },
    "pass_at_1": {
        "over all answers": lambda right: sum(map(sum, right)) / sum(map(len, right)),
        "pass@k": lambda right: sum(map(any, right)) / len(right),
        "first answer": lambda right: sum(r[0] for r in right) / len(right),
        "count": lambda right: sum(map(sum, right)),
        "no return": lambda right: None,
    },
    "cheat": {
        "honest": HONEST,
        "no tags": "24",
        "not 24": "<think> a </think> <answer> 8 + 2 </answer>",
        "no expression": "<think> a </think> <answer> twenty four </answer>",
        "no text": 24,
    },
    "informative_groups": {
        "paid groups": lambda rewards: sum(max(g) > 0 for g in rewards) / len(rewards),
        "groups with a right one": lambda rewards: sum(max(g) > 1 for g in rewards) / len(rewards),
        "not all right": lambda rewards: sum(min(g) < 1.2 for g in rewards) / len(rewards),
        "equal groups": lambda rewards: sum(len(set(g)) == 1 for g in rewards) / len(rewards),
        "count": lambda rewards: sum(len(set(g)) > 1 for g in rewards),
        "answers off the mean": lambda rewards: (
            sum(abs(r - sum(g) / len(g)) > 1e-6 for g in rewards for r in g)
            / sum(map(len, rewards))
        ),
    },
    "answer_mask": {
        "one too far right": lambda p, a, n: _mask([x + 1 for x in p], a, n),
        "stop token dropped": lambda p, a, n: _mask(p, [x - 1 for x in a], n),
        "prompt too": lambda p, a, n: _mask([1, 1], [x + y - 1 for x, y in zip(p, a)], n),
        "padding too": lambda p, a, n: _mask(p, [99, 99], n),
        "L columns": lambda p, a, n: _mask(p, a, n + 1),
        "everything": lambda p, a, n: torch.ones(2, n - 1),
    },
    "interval": {
        "spread of problems": lambda v: 1.96 * _interval(v) / 1.96 * math.sqrt(len(v)),
        "one standard error": lambda v: _interval(v) / 1.96,
        "whole width": lambda v: 2 * _interval(v),
        "population spread": lambda v: 1.96 * _pstd(v) / math.sqrt(len(v)),
        "yes-or-no answers": lambda v: 1.96 * math.sqrt(0.25 / len(v)),
    },
    "reflection_rates": {
        "mean of ratios": lambda m, t: (
            sum(m) / len(m),
            1000 * sum(x / y for x, y in zip(m, t)) / len(m),
        ),
        "per token": lambda m, t: (sum(m) / len(m), sum(m) / sum(t)),
        "swapped": lambda m, t: (1000 * sum(m) / sum(t), sum(m) / len(m)),
        "total": lambda m, t: (sum(m), 1000 * sum(m) / sum(t)),
        "one number": lambda m, t: sum(m) / len(m),
    },
}

LESSONS = {
    ("pass_at_1", "over all answers"): "inside each problem first",
    ("informative_groups", "paid groups"): "is not yet one that teaches",
    ("answer_mask", "stop token dropped"): "stop token",
    ("interval", "one standard error"): "one standard error",
}
