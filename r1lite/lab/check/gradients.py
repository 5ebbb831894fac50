"""Exercises on the policy gradient (notebook 03)."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .marking import call, compare, is_untried, passed


def log_slopes(mine: Callable | None) -> None:
    """f(probs) -> (K, K): row i is the gradient of log p(i) in the K logits; probs is (K,)."""
    name = "log_slopes"
    if is_untried(name, mine):
        return
    expected = [[0.5, -0.3, -0.2], [-0.5, 0.7, -0.2], [-0.5, -0.3, 0.8]]
    slips = {
        "that is the gradient of p(i). The gradient of log p(i) is this divided by p(i), because "
        "the slope of log p is 1 / p.": [
            [0.25, -0.15, -0.1],
            [-0.15, 0.21, -0.06],
            [-0.1, -0.06, 0.16],
        ],
        "rows and columns are swapped: row i belongs to answer i, and each of its entries to one "
        "logit. Subtract the probabilities along the row.": [
            [0.5, -0.5, -0.5],
            [-0.3, 0.7, -0.3],
            [-0.2, -0.2, 0.8],
        ],
        "the sign is turned: raising its own logit makes an answer likelier.": [
            [-0.5, 0.3, 0.2],
            [0.5, -0.7, 0.2],
            [0.5, 0.3, -0.8],
        ],
        "only the answer's own logit moves in yours. All probabilities add up to 1, so the other "
        "logits matter too: subtract the probabilities.": [
            [1.0, 0.0, 0.0],
            [0.0, 1.0, 0.0],
            [0.0, 0.0, 1.0],
        ],
        "that is the gradient in the probabilities, 1 / p(i). Asked is the one in the logits.": [
            [2.0, 0.0, 0.0],
            [0.0, 10 / 3, 0.0],
            [0.0, 0.0, 5.0],
        ],
    }
    got = call(name, mine, torch.tensor([0.5, 0.3, 0.2]))
    compare(name, got, expected, slips, where=" for probabilities 0.5 0.3 0.2, one row an answer")
    again = call(name, mine, torch.tensor([0.1, 0.9]))
    compare(name, again, [[0.9, -0.9], [-0.1, 0.1]], {}, where=" for probabilities 0.1 0.9")
    passed(name)


def gradient_variance(mine: Callable | None) -> None:
    """f(probs, rewards, baseline) -> variance of the estimate from one answer, a single number.

    probs, rewards (K,), baseline a number. Summed over the K logits, over all answers that could
    be drawn, each with its probability.
    """
    name = "gradient_variance"
    if is_untried(name, mine):
        return
    probs, rewards = torch.tensor([0.1, 0.2, 0.4, 0.3]), torch.tensor([1.2, 1.2, 0.2, 0.0])
    baselines = (0.0, 0.44, 1.2)
    slips = {
        "that is the mean square. A variance is measured from the mean: subtract the mean "
        "gradient before you square.": [0.4256, 0.21968, 0.5024],
        "that is the root, the noise itself. Asked is its square.": [0.60834, 0.40517, 0.66849],
        "the baseline changes nothing in yours. Subtract it from the rewards.": [0.37008] * 3,
        "all four answers count the same in yours. D is drawn three times as often as A: weigh "
        "each answer with its probability.": [0.55875, 0.22875, 0.34275],
        "the squares are averaged as if all four answers were equally frequent. Weigh them with "
        "the probabilities, as the mean.": [0.60132, 0.24140, 0.34932],
        "that is the mean over the logits. Add them up.": [0.09252, 0.04104, 0.11172],
        "the baseline is added. Subtract it from the rewards.": [0.37008, 0.84704, 2.30928],
    }
    got = torch.stack(
        [torch.as_tensor(call(name, mine, probs, rewards, b)).double() for b in baselines]
    )
    where = f" for the four answers at baselines {', '.join(map(str, baselines))}"
    compare(name, got, [0.37008, 0.16416, 0.44688], slips, tolerance=5e-4, where=where)
    alike = call(name, mine, torch.tensor([0.5, 0.5]), torch.tensor([1.0, 1.0]), 1.0)
    compare(name, alike, 0.0, {}, where=" when every reward equals the baseline")
    passed(name)


def gae(mine: Callable | None) -> None:
    """f(rewards, values, lam) -> advantages; all (T,), values[t] before token t, no discount.

    The value after the last token is 0.
    """
    name = "gae"
    if is_untried(name, mine):
        return
    lams = (0.0, 0.95, 1.0)
    whole, single = [-0.44, -0.6, -0.48], [0.16, -0.12, -0.48]
    expected = [single, [-0.3872, -0.576, -0.48], whole]
    slips = {
        "after the last token nothing is left to expect: the value there is 0, not that of the "
        "last token again. Yours never sees how the answer ended.": [
            [0.16, -0.12, 0.0],
            [0.046, -0.12, 0.0],
            [0.04, -0.12, 0.0],
        ],
        "lambda changes nothing in yours: the errors are summed whole, as if it were 1.": [whole]
        * 3,
        "lambda changes nothing in yours: each token has its own error only, as if it were 0.": [
            single
        ]
        * 3,
        "the errors are summed from the front. A token answers for what comes after it: start at "
        "the last token and walk back.": [single, [0.16, 0.032, -0.4496], [0.16, 0.04, -0.44]],
        "the value of what comes next is missing: the error of a token is reward + next value - "
        "own value.": [whole, [-1.4432, -1.056, -0.48], [-1.52, -1.08, -0.48]],
        "those are the critic's targets, advantage + value. Leave out the last addition.": [
            [0.6, 0.48, 0.0],
            [0.0528, 0.024, 0.0],
            [0.0, 0.0, 0.0],
        ],
        "the sign is turned: the error is what came out minus what was expected.": [
            [-v for v in row] for row in expected
        ],
    }
    rewards, values = torch.zeros(3), torch.tensor([0.44, 0.6, 0.48])
    got = [torch.as_tensor(call(name, mine, rewards, values, lam)).tolist() for lam in lams]
    where = f" for rewards 0 0 0, values 0.44 0.6 0.48, at lambda {', '.join(map(str, lams))}"
    compare(name, got, expected, slips, where=where)
    early = "a reward can come before the end: add rewards[t] at every token, not only at the last."
    middle = {early: [0.4, 0.4, 0.4], "the rewards are not in it.": [-0.05, -0.1, -0.6]}
    inputs = (torch.tensor([0.5, 0.0, 1.0]), torch.tensor([0.2, 0.4, 0.6]), 0.5)
    again = call(name, mine, *inputs)
    where = " for rewards 0.5 0 1, values 0.2 0.4 0.6, lambda 0.5"
    compare(name, again, [0.9, 0.4, 0.4], middle, where=where)
    passed(name)


_LINES = {
    1: "the loop is as it should be: several updates on the same answers are the point.",
    3: "this starts a fresh gradient for each update, so that slopes do not add up.",
    4: "a ratio of probabilities is exp of a difference of logs, the new one first: right.",
    5: "that is the clip, on both sides: right.",
    6: "that is PPO's minimum, and it is to be raised: right.",
    7: "the gain is differentiated once for each update: right.",
    8: "the gain is to be raised, so the step goes up the gradient: right.",
}


def faulty_line(mine: int | None) -> None:
    """The number of the line that makes the clip of `careless_reuse` do nothing."""
    name = "faulty_line"
    if is_untried(name, mine):
        return
    if isinstance(mine, bool) or not isinstance(mine, int) or not 1 <= mine <= 8:
        raise AssertionError(f"{name}: {mine!r} is no line. Give a whole number from 1 to 8.")
    if mine != 2:
        raise AssertionError(
            f"{name}: not line {mine}: {_LINES[mine]} Print the ratio at each update."
        )
    passed(name)
