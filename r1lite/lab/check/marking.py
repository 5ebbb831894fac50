"""What every checker shares: noticing a stub, calling the learner's code, comparing numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch


def is_untried(name: str, mine: Any) -> bool:
    if mine is None:
        print(f"{name}: not tried yet. The next cells use r1lite's version.")
    return mine is None


def call(name: str, function: Callable, *inputs: Any) -> Any:
    """What the learner's function gives; its exceptions become a message that shows the input."""
    shown = ", ".join(str(i.tolist() if isinstance(i, torch.Tensor) else i) for i in inputs)
    if not callable(function):
        raise AssertionError(f"{name}: {function!r} is no function. Write `def ...` or a lambda.")
    try:
        result = function(*inputs)
    except Exception as error:
        raise AssertionError(
            f"{name}: your function stopped with {type(error).__name__}: {error}. "
            f"The input was {shown}. Run it on that input in a cell of its own."
        ) from error
    if result is None:
        raise AssertionError(f"{name}: your function gives back None. Is a `return` missing?")
    return result


def compare(
    name: str,
    result: Any,
    expected: Sequence,
    slips: Mapping[str, Sequence],
    *,
    tolerance: float = 2e-3,
    where: str = "",
) -> None:
    """Raise unless result is expected; a result that matches a known slip is told what it is."""
    try:
        got = torch.as_tensor(result).detach().double()
    except (TypeError, ValueError, RuntimeError):
        raise AssertionError(f"{name}: {result!r} is not made of numbers.") from None
    want = torch.tensor(expected, dtype=torch.float64)
    if got.shape != want.shape:
        raise AssertionError(
            f"{name}: the shape is {tuple(got.shape)}, it must be {tuple(want.shape)}{where}."
        )
    if torch.allclose(got, want, atol=tolerance, rtol=0):
        return
    for lesson, values in slips.items():
        slip = torch.tensor(values, dtype=torch.float64)
        if torch.allclose(got, slip, atol=tolerance, rtol=0, equal_nan=True):
            raise AssertionError(f"{name}: {lesson}")
    shown = [[round(v, 4) for v in t.flatten().tolist()] for t in (got, want)]
    raise AssertionError(f"{name}: you have {shown[0]}, it must be {shown[1]}{where}.")


def passed(name: str) -> None:
    print(f"{name}: right.")
