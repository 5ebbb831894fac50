"""Checks that are more than a comparison with constants."""

from collections.abc import Callable, Sequence

import torch

from ...prompt import split_answer
from ...world.expression import BadExpression, evaluate_expression
from .marking import Step, build, call, compare, is_untried, mark, passed


def cheat(mine: str | None) -> None:
    """An answer to `make 24 from 2 8 4 .` that a checker pays although it breaks the rules."""
    name = "cheat"
    if is_untried(name, mine):
        return
    final = split_answer(mine).final if isinstance(mine, str) else None
    if final is None:
        raise AssertionError(
            f"{name}: the format is not kept, so even the careless checker pays nothing. Write "
            "<think> ... </think> <answer> ... </answer> with something in both."
        )
    try:
        found = evaluate_expression(final)
    except BadExpression as error:
        raise AssertionError(f"{name}: {final!r} is no expression ({error}).") from None
    if found.value != 24:
        raise AssertionError(
            f"{name}: {final} is {found.value}, not 24, and the careless checker does look at that."
        )
    if sorted(found.numbers) == [2, 4, 8]:
        raise AssertionError(
            f"{name}: {final} is an honest solution. Find one that the careless checker pays "
            "and the rules of the game do not."
        )
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


def _faulty_line(name: str, mine: int | None, steps: Sequence[Step]) -> None:
    """A line is a whole number; whatever else is no line."""
    is_line = isinstance(mine, int) and not isinstance(mine, bool) and 1 <= mine <= 8
    if mine is not None and not is_line:
        raise AssertionError(f"{name}: {mine!r} is no line. Give a whole number from 1 to 8.")
    mark(name, mine, steps)


def _clipped_gain(name: str, mine: Callable | None, steps: Sequence[Step]) -> None:
    """The steps come in pairs: the gains, then their slopes in the ratio."""
    if is_untried(name, mine):
        return
    for gains, slopes in zip(steps[::2], steps[1::2]):
        ratio, advantage, epsilon = build(gains.calls[0])
        got = call(name, mine, [ratio.requires_grad_(), advantage, epsilon])
        compare(name, [got], gains)
        if not torch.as_tensor(got).requires_grad:
            raise AssertionError(
                f"{name}: no gradient reaches the ratio. Leave out detach and no_grad."
            )
        compare(name, [torch.autograd.grad(got.sum(), ratio)[0]], slopes)
    passed(name)


# Checks without an entry in data/exercises, and entries that are marked in a way of their own.
CHECKS = {"cheat": cheat, "clip_counterexample": clip_counterexample}
MARKERS = {"clipped_gain": _clipped_gain, "faulty_line": _faulty_line}
