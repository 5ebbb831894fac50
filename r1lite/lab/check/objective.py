"""Exercises on the objective (notebook 04)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from .marking import call, compare, is_untried, passed


def advantages(mine: Callable | None) -> None:
    """f(rewards) -> advantages; rewards is a (P, G) tensor, the result has the same shape."""
    name = "advantages"
    if is_untried(name, mine):
        return
    rewards = torch.tensor([[1.2, 1.2, 0.2, 0.0], [1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    expected = [[0.9918, 0.9918, -0.8115, -1.1722], [1.7321] + [-0.5774] * 3, [0.0] * 4]
    sample = [[0.859, 0.859, -0.7028, -1.0151], [1.5] + [-0.5] * 3, [0.0] * 4]
    got = call(name, mine, rewards.clone())
    if torch.isnan(torch.as_tensor(got)).any():
        raise AssertionError(
            f"{name}: there is a NaN. In a group of equal rewards the spread is 0: add something "
            "small to it (r1lite adds 1e-4) before you divide."
        )
    slips = {
        "the sign is turned: an answer above its group's mean has a positive advantage.": [
            [-v for v in row] for row in expected
        ],
        "that is the sample standard deviation (divided by G - 1; torch's default). The paper "
        "does not say which; r1lite takes the population one: unbiased=False.": sample,
        "the mean is off, but the spread is missing: divide by the group's standard deviation.": [
            [0.55, 0.55, -0.45, -0.65],
            [0.75, -0.25, -0.25, -0.25],
            [0.0] * 4,
        ],
        "you divided by the variance. Its root is what makes advantages independent of the "
        "rewards' unit.": [[1.7886, 1.7886, -1.4634, -2.1138], [4.0] + [-4 / 3] * 3, [0.0] * 4],
    }
    for lesson, axis in (
        ("that is the mean over all groups. Each group is its own yardstick: mean(-1).", None),
        ("that is the mean over problems. The group runs along the last axis: mean(-1).", 0),
    ):
        centred = rewards - (rewards.mean() if axis is None else rewards.mean(0))
        spread = rewards.std(unbiased=False) if axis is None else rewards.std(0, unbiased=False)
        slips[lesson] = (centred / (spread + 1e-4)).tolist()
    compare(name, got, expected, slips, where=" (rows: 1.2 1.2 0.2 0; 1 0 0 0; 1 1 1 1)")
    passed(name)


def clipped_gain(mine: Callable | None) -> None:
    """f(ratio, advantage, epsilon) -> PPO's gain per token, to be raised."""
    name = "clipped_gain"
    if is_untried(name, mine):
        return
    advantage = torch.tensor([2.0, 1.0, 1.0, -1.0, -1.0])
    cases = [  # epsilon, ratios, gains, slopes
        (0.2, [1, 1.5, 0.5, 1.5, 0.5], [2, 1.2, 0.5, -1.5, -0.8], [2, 0, 1, -1, 0]),
        (10.0, [1, 12, 0.01, 12, 0.01], [2, 11, 0.01, -12, -0.01], [2, 0, 1, -1, -1]),
    ]
    for epsilon, ratios, gains, slopes in cases:
        ratio = torch.tensor(ratios, dtype=torch.float32, requires_grad=True)
        got = call(name, mine, ratio, advantage, epsilon)
        clipped = ratio.detach().clamp(1 - epsilon, 1 + epsilon) * advantage
        plain = ratio.detach() * advantage
        slips = {
            "for negative advantages the clip is inverted: you cap how bad a token may count and "
            "cut those that have already been pushed down too little. PPO takes the minimum of "
            "both terms whatever the sign.": torch.where(
                advantage > 0, torch.minimum(plain, clipped), torch.maximum(plain, clipped)
            ).tolist(),
            "that is the maximum. The minimum is the cautious one of the two.": (
                torch.maximum(plain, clipped).tolist()
            ),
            "only the clipped term is there. Without the minimum, a token that moved the wrong "
            "way (ratio 0.5, advantage +1) is cut too and can never come back.": clipped.tolist(),
            "nothing is clipped: compare with ratio.clamp(1 - epsilon, 1 + epsilon).": (
                plain.tolist()
            ),
            "the sign is turned: this is a gain, to be raised. The loss is its negative.": [
                -g for g in gains
            ],
        }
        where = f" at epsilon {epsilon}, ratios {ratios}, advantages {advantage.tolist()}"
        compare(name, got, gains, slips, where=where)
        if not torch.as_tensor(got).requires_grad:
            raise AssertionError(
                f"{name}: no gradient reaches the ratio. Leave out detach and no_grad."
            )
        slope = torch.autograd.grad(got.sum(), ratio)[0]
        compare(name, slope, slopes, {}, where=f": these are the slopes{where}")
    passed(name)


def clip_counterexample(mine: Sequence[float] | None) -> None:
    """(ratio, advantage) where the inverted clip and PPO's differ, at epsilon 0.2."""
    name = "clip_counterexample"
    if is_untried(name, mine):
        return
    try:
        ratio, advantage = map(float, mine)
    except (TypeError, ValueError):
        raise AssertionError(f"{name}: {mine!r} is not a pair (ratio, advantage).") from None
    if ratio <= 0:
        raise AssertionError(f"{name}: a ratio of probabilities is above 0, not {ratio}.")
    if advantage >= 0:
        raise AssertionError(
            f"{name}: at an advantage of {advantage} both take the minimum, so they agree at every "
            "ratio. Look at the other branch."
        )
    if 0.8 <= ratio <= 1.2:
        raise AssertionError(
            f"{name}: {ratio} lies between 0.8 and 1.2, where the clip does nothing, so both "
            "terms are equal and minimum and maximum agree."
        )
    passed(name)


def k3(mine: Callable | None) -> None:
    """f(logp_new, logp_ref) -> r - log r - 1 per token, with r = reference / policy."""
    name = "k3"
    if is_untried(name, mine):
        return
    new, ref = torch.tensor([0.7, 0.3, 0.4]).log(), torch.tensor([0.5, 0.5, 0.4]).log()
    slips = {
        "the ratio is upside down: r is reference / policy, because the answers were sampled from "
        "the policy. Yours would estimate something else.": [0.0635, 0.1108, 0.0],
        "that is k1, log(policy / reference): right on average, but below 0 for some tokens.": [
            0.3365,
            -0.5108,
            0.0,
        ],
        "that is k1 with its sign turned: on average it pays for drifting away.": [
            -0.3365,
            0.5108,
            0.0,
        ],
        "that is k2, half the squared log-ratio: never negative, but biased.": [
            0.0566,
            0.1305,
            0.0,
        ],
        "the - 1 is missing: equal policies must give 0.": [1.0508, 1.1558, 1.0],
    }
    compare(
        name,
        call(name, mine, new, ref),
        [0.0508, 0.1558, 0.0],
        slips,
        tolerance=5e-4,
        where=": one value per token",
    )
    passed(name)
