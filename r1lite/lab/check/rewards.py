"""Exercises on rewards and their measurement (notebook 00)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...prompt import split_answer
from ...world.expression import BadExpression, evaluate_expression
from .marking import call, compare, is_untried, passed


def four_rewards(mine: Sequence[float] | None) -> None:
    """Rewards of the four invented answers: format 0.2, accuracy 1, right only if well formed."""
    name = "four_rewards"
    if is_untried(name, mine):
        return
    slips = {
        "D reaches 24, but its tags are broken. The strict rule reads nothing out of a broken "
        "format: neither the format reward nor the accuracy reward is paid.": [1.2, 1.2, 0.2, 1.0],
        "the format reward is missing: A, B and C each keep the format, worth 0.2.": [1, 1, 0, 0],
        "C keeps the format, and the format alone is worth 0.2.": [1.2, 1.2, 0, 0],
        "both rewards are added: a right answer in the right format is worth 1 + 0.2.": [
            1,
            1,
            0.2,
            0,
        ],
        "each reward has its weight: accuracy 1, format 0.2.": [2, 2, 1, 0],
    }
    compare(name, mine, [1.2, 1.2, 0.2, 0.0], slips)
    passed(name)


def uses_each_once(mine: Callable | None) -> None:
    """f(used, given) -> True if `used` holds each given number exactly once, in any order."""
    name = "uses_each_once"
    if is_untried(name, mine):
        return
    cases = [
        ([8, 2, 4], [2, 4, 8], True, "the order does not matter"),
        ([2, 8, 4], [2, 4, 8], True, "the order does not matter"),
        ([6, 2, 2], [2, 2, 6], True, "2 is given twice and used twice"),
        ([8, 2], [2, 4, 8], False, "4 is left out"),
        ([8, 2, 4, 4], [2, 4, 8], False, "4 is used twice but given once"),
        ([6, 6, 2], [2, 2, 6], False, "the same two values, but 6 is used twice"),
        ([24], [2, 4, 8], False, "24 was never given: that is the target, smuggled in"),
        ([1, 5, 8], [2, 4, 8], False, "1 and 5 were not given"),
    ]
    for used, given, truth, reason in cases:
        if bool(call(name, mine, used, given)) is not truth:
            raise AssertionError(
                f"{name}: for used={used}, given={given} it must be {truth}: {reason}."
            )
    passed(name)


def pass_at_1(mine: Callable | None) -> None:
    """f(right) -> mean over problems of the share of right answers; `right` has a list each."""
    name = "pass_at_1"
    if is_untried(name, mine):
        return
    right = [[False, True, False, False], [True, True], [False, False, False, False]]
    slips = {
        "you averaged over all answers at once. Take the share inside each problem first, then "
        "average over problems, so that every problem counts the same.": 0.3,
        "that is pass@k, whether any answer is right. pass@1 asks what one answer is worth.": 2 / 3,
        "that reads one answer per problem. All k answers are used, which is less noisy.": 1 / 3,
        "that is a count. pass@1 is a share from 0 to 1.": 3.0,
    }
    compare(name, call(name, mine, right), 5 / 12, slips, where=f" for {right}")
    passed(name)


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
