"""How an answer is marked: run the learner's code on each step, compare, name a known slip."""

import copy
import ctypes
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

LIMIT = 10.0  # seconds for one call of a learner's function


@dataclass(frozen=True)
class Slip:
    """A known mistake: the lesson for it, and how it shows (its results, its shape or a NaN)."""

    lesson: str
    results: Sequence = ()
    shape: Sequence[int] | None = None
    nan: bool = False


@dataclass(frozen=True)
class Step:
    """One comparison of an exercise; data/exercises/README.md describes what is not told here.

    kind     how results are compared: "numbers", "text" or "truth"
    want     the right result; if there are several calls, a list with one for each
    calls    the inputs of each call; None where no function is asked for but the result itself
    """

    kind: str
    want: Any
    calls: Sequence[Sequence] | None
    several: bool
    slips: Sequence[Slip] = ()
    where: str = ""
    tolerance: float = 2e-3
    reason: str = ""
    spaces: str = "exact"
    not_text: str = ""
    stops: Mapping[str, str] | None = None

    def each(self, result: Any) -> Any:
        """A result of the step as a list with one entry for each call."""
        return result if self.several else [result]

    def sample_row(self, i: int) -> str:
        """The end of a message, which says for which inputs: those of call i."""
        return fill(self.where, build(self.calls[i]) if self.calls else [])


def mark(name: str, mine: Any, steps: Sequence[Step]) -> None:
    """Say "right" if every step is; the first that is not raises AssertionError, which `check.NAME`
    prints."""
    if is_untried(name, mine):
        return
    for step in steps:
        results = [call(name, mine, build(c), step.stops) for c in step.calls or []]
        compare(name, results or [mine], step)
    passed(name)


def is_untried(name: str, mine: Any) -> bool:
    if mine is None:
        print(f"{name}: not tried yet. The next cells use r1lite's version.")
    return mine is None


def passed(name: str) -> None:
    print(f"{name}: right.")


def build(written: Any) -> Any:
    """A fresh copy of inputs as they are written in JSON, with their tensors and tuples made.

    >>> build([{"tuple": ["a", "b"]}, [1, {"tensor": [0.5]}]])
    [('a', 'b'), [1, tensor([0.5000])]]
    """
    if isinstance(written, list):
        return [build(value) for value in written]
    if not isinstance(written, dict):
        return written
    if set(written) == {"tensor"}:
        return torch.tensor(written["tensor"], dtype=torch.float32)
    if set(written) == {"tuple"}:
        return tuple(build(written["tuple"]))
    return {key: build(value) for key, value in written.items()}


def fill(text: str, inputs: Sequence) -> str:
    """The text with <<1>>, <<2>> ... replaced by the inputs of a call, as Python shows them."""
    return re.sub(r"<<(\d+)>>", lambda found: repr(inputs[int(found[1]) - 1]), text)


def call(name: str, function: Any, inputs: Sequence, stops: Mapping[str, str] | None = None) -> Any:
    """What the learner's function gives; its exceptions, a loop without an end and a changed input
    become a message that shows the input."""
    shown = ", ".join(str(i.tolist() if isinstance(i, torch.Tensor) else i) for i in inputs)
    if not callable(function):
        raise AssertionError(f"{name}: {function!r} is no function. Write `def ...` or a lambda.")
    before = repr(_as_lists(inputs))
    try:
        result = in_time(function, inputs)
    except TooLong:
        raise AssertionError(
            f"{name}: your function did not come to an end and was stopped after {LIMIT:g} s. The "
            f"input was {shown}. Does every loop in it have an end?"
        ) from None
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        what = f"stopped with {type(error).__name__}: {error}."
        for kind in type(error).__mro__:  # a lesson on ValueError is for its subclasses as well
            if stops and kind.__name__ in stops:
                lesson = fill(stops[kind.__name__], inputs)
                raise AssertionError(f"{name}: {what} {lesson}") from error
        raise AssertionError(
            f"{name}: your function {what} The input was {shown}. "
            "Run it on that input in a cell of its own."
        ) from error
    if result is None:
        raise AssertionError(f"{name}: your function gives back None. Is a `return` missing?")
    if repr(_as_lists(inputs)) != before:
        raise AssertionError(
            f"{name}: your function changes its input, {before}, which others still need. Work "
            "on a copy: x.clone() of a tensor, list(x) of a list."
        )
    return result


class TooLong(BaseException):
    """Raised in a learner's function at its limit; no `except Exception` there catches it."""


def in_time(function: Any, inputs: Sequence) -> Any:
    """function(*inputs), or TooLong after LIMIT seconds.

    A thread can be given up anywhere, where signals need the main thread of a POSIX system.
    """
    outcome: dict[str, Any] = {}

    def work() -> None:
        try:
            outcome["result"] = function(*inputs)
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        thread.join(LIMIT)
        if thread.is_alive():
            raise TooLong
    finally:  # also at Ctrl-C
        if thread.is_alive():
            number = ctypes.c_ulong(thread.ident)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(number, ctypes.py_object(TooLong))
    if "error" in outcome:
        raise outcome["error"]
    return outcome["result"]


def _as_lists(value: Any) -> Any:
    """A copy that shows every number."""
    if isinstance(value, torch.Tensor):
        return value.detach().tolist()
    if isinstance(value, (list, tuple)):
        return type(value)(map(_as_lists, value))
    return copy.deepcopy(value)


def compare(name: str, results: list, step: Step) -> None:
    """Raise unless the results, one for each call of the step, are the right ones."""
    if step.kind != "numbers":
        return _compare_words(name, results, step)
    result = results[0]
    if step.several:
        result = [r.tolist() if isinstance(r, torch.Tensor) else r for r in results]
    try:
        got = torch.as_tensor(result).detach().double()
    except (TypeError, ValueError, RuntimeError):
        raise AssertionError(f"{name}: {result!r} is not made of numbers.") from None
    for slip in step.slips:
        if (slip.nan and got.isnan().any()) or slip.shape == list(got.shape):
            raise AssertionError(f"{name}: {slip.lesson}")
    want = torch.tensor(step.want, dtype=torch.float64)
    if got.shape != want.shape:
        shapes = f"the shape is {tuple(got.shape)}, it must be {tuple(want.shape)}"
        raise AssertionError(f"{name}: {shapes}{step.sample_row(0)}.")
    if same(got, want, step):
        return
    _raise_known(name, got, step)
    shown = [[round(v, 4) for v in t.flatten().tolist()] for t in (got, want)]
    raise AssertionError(f"{name}: you have {shown[0]}, it must be {shown[1]}{step.sample_row(0)}.")


def _compare_words(name: str, results: list, step: Step) -> None:
    for result in results:
        if step.not_text and not isinstance(result, str):
            raise AssertionError(f"{name}: {result!r} is no text. {step.not_text}")
    _raise_known(name, results if step.several else results[0], step)
    for i, (got, want) in enumerate(zip(results, step.each(step.want))):
        if same(got, want, step):
            continue
        where = step.sample_row(i)
        if step.kind == "truth":
            raise AssertionError(f"{name}:{where} it must be {want}: {step.reason}.")
        if step.reason:
            wrong = f"it must be {want!r}, you have {got!r}. Reason: {step.reason}."
            raise AssertionError(f"{name}:{where} {wrong}")
        got = tidy(got, step.spaces)
        raise AssertionError(f"{name}: you have {got!r}, it must be {want!r}{where}.")


def _raise_known(name: str, result: Any, step: Step) -> None:
    for slip in step.slips:
        if any(same(result, other, step) for other in slip.results):
            raise AssertionError(f"{name}: {slip.lesson}")


def same(result: Any, other: Any, step: Step) -> bool:
    """Whether two results count as equal in this step; a NaN equals a NaN."""
    if step.kind == "truth":
        return bool(result) is other
    if step.kind == "text":
        return tidy(result, step.spaces) == tidy(other, step.spaces)
    a, b = (torch.as_tensor(x, dtype=torch.float64) for x in (result, other))
    return a.shape == b.shape and torch.allclose(a, b, atol=step.tolerance, rtol=0, equal_nan=True)


def tidy(result: Any, spaces: str) -> Any:
    """Text (or a list of texts) without the white space that does not count in the exercise."""
    if isinstance(result, list):
        return [tidy(text, spaces) for text in result]
    if not isinstance(result, str) or spaces == "exact":
        return result
    return result.strip() if spaces == "ends" else " ".join(result.split())
