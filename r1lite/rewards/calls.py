"""Calling reward functions: all of them at once, and none for longer than a limit."""

from __future__ import annotations

import asyncio
import inspect
import math
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..records import UserError

# TRL's signature: f(prompts=, completions=, **columns) -> list[float | None], also as `async def`
Reward = Callable[..., Any]
SECONDS = 120.0  # for one function and all answers of a rollout


def call_rewards(
    functions: Mapping[str, Reward], columns: Mapping[str, Sequence], seconds: float = SECONDS
) -> dict[str, list[float | None]]:
    """Name -> one value for each answer. The functions run beside each other, a thread each.

    columns  prompts, completions and whatever else the functions ask for, all of one length
    None means that an answer could not be checked, also for all answers of a function that takes
    longer than `seconds`: it is warned of and left behind, since no thread can be killed.
    Raises UserError for values that are not one number or None an answer. A function that limits
    its time by signals gets none in a thread: give it another limit (math-verify:
    parsing_timeout=None).
    """
    found: dict[str, Any] = {}

    def run(name: str, function: Reward) -> None:
        try:
            values = function(**columns)
            found[name] = asyncio.run(_finish(values)) if inspect.isawaitable(values) else values
        except BaseException as error:  # the caller's thread raises it
            found[name] = error

    threads = {
        name: threading.Thread(target=run, args=(name, function), daemon=True)
        for name, function in functions.items()
    }
    for thread in threads.values():
        thread.start()
    deadline, n = time.monotonic() + seconds, len(columns["completions"])
    for name, thread in threads.items():
        thread.join(max(deadline - time.monotonic(), 0))
        if thread.is_alive():
            warnings.warn(
                f"reward {name!r} took longer than {seconds:.0f} s and is left behind: its "
                f"{n} answers count as not checked",
                stacklevel=2,
            )
        elif isinstance(found[name], BaseException):
            raise found[name]
    return {name: _checked(name, found.get(name, [None] * n), n) for name in functions}


async def _finish(values: Any) -> Any:
    return await values


def _checked(name: str, values: Any, n: int) -> list[float | None]:
    if not isinstance(values, (list, tuple)) or len(values) != n:
        raise UserError(
            f"reward {name!r} gave {values!r:.80}: it must give a list of {n} values, one an "
            "answer. A value is a number, or None for what could not be checked."
        )
    for value in values:
        if value is not None and not (isinstance(value, (int, float)) and math.isfinite(value)):
            raise UserError(
                f"reward {name!r} gave {value!r}: a reward is a finite number, or None for what "
                "could not be checked. Mend the function."
            )
    return [value if value is None else float(value) for value in values]
