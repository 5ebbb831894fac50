"""Every check of an exercise accepts the right answer and rejects at least four wrong ones."""

import math
from pathlib import Path

import pytest
import torch

from r1lite import Group, Rollout, group_advantages, is_right_leniently, score
from r1lite import k3 as library_k3
from r1lite.lab import check
from r1lite.lab.four import FOUR, PROBLEM
from r1lite.learn.batching import Row, to_batch

# A module of lab/check with a test file of its own, test_checks_<module>.py, is tested there.
ELSEWHERE = {p.stem[len("test_checks_") :] for p in Path(__file__).parent.glob("test_checks_*.py")}
HERE = [n for n in check.__all__ if getattr(check, n).__module__.split(".")[-1] not in ELSEWHERE]


def _advantages(rewards):
    return (rewards - rewards.mean(-1, keepdim=True)) / (
        rewards.std(-1, unbiased=False, keepdim=True) + 1e-8
    )


def _gain(ratio, advantage, epsilon):
    return torch.minimum(
        ratio * advantage, torch.clamp(ratio, 1 - epsilon, 1 + epsilon) * advantage
    )


def _inverted(ratio, advantage, epsilon):
    plain, clipped = ratio * advantage, ratio.clamp(1 - epsilon, 1 + epsilon) * advantage
    return torch.where(advantage >= 0, torch.minimum(plain, clipped), torch.maximum(plain, clipped))


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
    "uses_each_once": [lambda used, given: sorted(used) == sorted(given)],
    "pass_at_1": [lambda right: sum(sum(r) / len(r) for r in right) / len(right)],
    "cheat": [CHEAT, "<think> a </think> <answer> 12 + 12 </answer>"],
    "advantages": [_advantages, group_advantages],
    "clipped_gain": [_gain],
    "clip_counterexample": [(0.5, -1.0), (1.5, -1.0)],
    "k3": [library_k3, lambda new, ref: (ref - new).exp() - (ref - new) - 1],
    "kept": [lambda rewards: sum(len(set(g)) > 1 for g in rewards) / len(rewards)],
    "answer_mask": [_mask, _library_mask, lambda *a: torch.tensor(_mask(*a))],
    "interval": [_interval],
    "reflection_rates": [lambda m, t: (sum(m) / len(m), 1000 * sum(m) / sum(t))],
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
    "kept": {
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


def test_every_check_is_tested():
    assert set(RIGHT) == set(WRONG) == set(HERE)
    assert all(len(wrong) >= 4 for wrong in WRONG.values())


@pytest.mark.parametrize("name", HERE)
def test_accepts_the_right_answer(name, capsys):
    for answer in RIGHT[name]:
        getattr(check, name)(answer)
        assert capsys.readouterr().out == f"{name}: right.\n"


@pytest.mark.parametrize("name", HERE)
def test_not_trying_is_no_error(name, capsys):
    getattr(check, name)(None)
    assert "not tried yet. The next cells use r1lite's version." in capsys.readouterr().out


@pytest.mark.parametrize("name, slip", [(n, s) for n, slips in WRONG.items() for s in slips])
def test_rejects(name, slip):
    with pytest.raises(AssertionError) as caught:
        getattr(check, name)(WRONG[name][slip])
    message = str(caught.value)
    assert message.startswith(f"{name}: ") and len(message) > 40


@pytest.mark.parametrize("name", ["advantages", "clipped_gain", "k3", "kept", "answer_mask"])
def test_a_function_that_stops_is_explained(name):
    with pytest.raises(AssertionError, match="your function stopped with ZeroDivisionError"):
        getattr(check, name)(lambda *inputs: 1 / 0)


@pytest.mark.parametrize(
    "name, slip, lesson",
    [
        ("advantages", "sample std", "sample standard deviation"),
        ("advantages", "NaN in equal groups", "equal rewards"),
        ("clipped_gain", "inverted for negative advantages", "clip is inverted"),
        ("k3", "upside down", "upside down"),
        ("answer_mask", "stop token dropped", "stop token"),
        ("pass_at_1", "over all answers", "inside each problem first"),
        ("interval", "one standard error", "one standard error"),
        ("kept", "paid groups", "is not yet one that teaches"),
    ],
)
def test_the_message_names_the_slip(name, slip, lesson):
    with pytest.raises(AssertionError, match=lesson):
        getattr(check, name)(WRONG[name][slip])


def test_the_four_invented_answers_are_worth_what_the_check_says():
    group = Group(PROBLEM, (), tuple(Rollout((), (), text, False) for text in FOUR.values()))
    scored = score([group], {"accuracy": 1.0, "format": 0.2})[0]
    assert scored.rewards == (1.2, 1.2, 0.2, 0.0)
    assert [is_right_leniently(PROBLEM, text) for text in FOUR.values()] == [
        True,
        True,
        False,
        True,
    ]
    check.four_rewards(scored.rewards)
