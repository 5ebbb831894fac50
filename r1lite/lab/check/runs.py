"""Exercises on running and measuring (notebook 05)."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .marking import call, compare, is_untried, passed


def kept(mine: Callable | None) -> None:
    """f(rewards) -> share of groups that teach something; `rewards` has a list per group."""
    name = "kept"
    if is_untried(name, mine):
        return
    alike = [[0.2] * 4, [0.0] * 4, [1.2] * 4, [0.0] * 4, [0.0] * 4, [1.2] * 4]
    rewards = [[1.2, 0.2, 0.0, 0.2], [0.0, 0.2, 0.2, 0.2], *alike]
    equal = "in a group of equal rewards every answer is average, so every advantage is 0."
    slips = {
        f"a group that is paid is not yet one that teaches: {equal}": 0.625,
        f"a group with a right answer is not yet one that teaches: {equal}": 0.375,
        "a group without a right answer can teach too: the format alone makes rewards differ.": (
            0.125
        ),
        "those are the groups that teach nothing.": 0.75,
        "that is a count. A share lies between 0 and 1: divide by the number of groups.": 2.0,
    }
    cases = [
        (rewards, 0.25, slips),
        ([[1.0, 0.0], [0.0, 1.0]], 1.0, {}),
        ([[1.0, 0.5, 0.0], [0.5, 0.5, 0.5]], 0.5, {}),
        ([[1.2, 1.2], [0.0, 0.0], [0.2, 0.2]], 0.0, {}),
    ]
    for groups, share, known in cases:
        compare(name, call(name, mine, groups), share, known, where=f" for {groups}")
    passed(name)


def answer_mask(mine: Callable | None) -> None:
    """f(n_prompt, n_answer, length) -> (B, length - 1) mask; position l speaks of token l + 1."""
    name = "answer_mask"
    if is_untried(name, mine):
        return
    inputs = ([3, 2], [2, 4], 6)
    expected = [[0, 0, 1, 1, 0], [0, 1, 1, 1, 1]]
    slips = {
        "one place too far right. Position l holds the log-probability of token l + 1, so the "
        "first answer token, number n_prompt, is spoken of at n_prompt - 1.": [
            [0, 0, 0, 1, 1],
            [0, 0, 1, 1, 1],
        ],
        "the last token of each answer is missing. That is the stop token: the policy wrote it, "
        "and unless it is trained the model never learns when to stop.": [
            [0, 0, 1, 0, 0],
            [0, 1, 1, 1, 0],
        ],
        "the prompt is in the mask. The policy did not write it and must not be pushed on it.": [
            [1, 1, 1, 1, 0],
            [1, 1, 1, 1, 1],
        ],
        "the padding is in the mask. Nobody wrote it.": [[0, 0, 1, 1, 1], [0, 1, 1, 1, 1]],
    }
    got = torch.as_tensor(call(name, mine, *inputs)).double()
    if got.shape == (2, 6):
        raise AssertionError(
            f"{name}: there is one column too many. A row of L tokens has L - 1 next-token "
            "log-probabilities: nothing predicts the first token."
        )
    compare(name, got, expected, slips, where=f" for n_prompt, n_answer, length = {inputs}")
    passed(name)


def interval(mine: Callable | None) -> None:
    """f(per_problem) -> half-width of the 95 % interval of their mean."""
    name = "interval"
    if is_untried(name, mine):
        return
    values = [0.0, 1.0, 0.5, 0.5, 0.5]
    slips = {
        "that is the spread of single problems. The mean of n problems is steadier by sqrt(n).": (
            0.6930
        ),
        "that is one standard error. A 95 % interval reaches 1.96 of them to each side.": 0.1581,
        "that is the whole width. Asked is the half-width, the number after the +-.": 0.6198,
        "that is the population spread. From a sample, divide the squares by n - 1.": 0.2772,
        "p (1 - p) / n is for single yes-or-no answers. Here each problem has a share of its own, "
        "so use how much the shares differ.": 0.4383,
    }
    where = f" for {values}: 1.96 * sample std / sqrt(n)"
    compare(name, call(name, mine, values), 0.3099, slips, where=where)
    steady = call(name, mine, [0.25] * 10)
    compare(name, steady, 0.0, {}, where=" when all problems agree")
    passed(name)


def reflection_rates(mine: Callable | None) -> None:
    """f(n_markers, n_tokens) -> (markers per answer, markers per 1,000 tokens)."""
    name = "reflection_rates"
    if is_untried(name, mine):
        return
    markers, tokens = [0, 2, 1, 5], [20, 40, 20, 120]
    slips = {
        "the second is a mean of ratios: short answers then count as much as long ones. Divide "
        "all markers by all tokens.": [2.0, 35.4167],
        "the second is per token. Per 1,000 tokens is easier to read.": [2.0, 0.04],
        "the two are swapped: first per answer, then per 1,000 tokens.": [40.0, 2.0],
        "the first is a total. Divide by the number of answers.": [8.0, 40.0],
    }
    got = call(name, mine, markers, tokens)
    where = f" for markers {markers} and tokens {tokens}"
    compare(name, got, [2.0, 40.0], slips, where=where)
    passed(name)
