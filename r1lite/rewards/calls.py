"""Calling reward functions: all of them at once, none for longer than a limit, and TRL's as ours.

A reward of either library gets what it knows: ours read texts and Problems, and so does what TRL's
trainer hands them (chat messages, rows of a data set) once plain_columns has read it; TRL's own
read chat messages, and get them here.
"""

import asyncio
import functools
import inspect
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from threading import Thread
from typing import Any

from ..records import Problem, UserError

# TRL's signature: f(prompts=, completions=, **columns) -> list[float | None], also as `async def`
Reward = Callable[..., Any]
SECONDS = 120.0  # for one function and all answers of a rollout


def plain_columns(reward: Reward) -> Reward:
    """Let a reward that reads texts and Problems take chat messages and rows of a data set too.

    prompts, completions  texts, or lists of messages as TRL has them; what a tool said is left out
    problem               Problems, or the dicts that a datasets.Dataset makes of them
    """

    @functools.wraps(reward)
    def reads_plain(prompts, completions, **columns):
        if "problem" in columns:
            columns["problem"] = [
                Problem.from_dict(p) if isinstance(p, Mapping) else p for p in columns["problem"]
            ]
        return reward([*map(_text, prompts)], [*map(_text, completions)], **columns)

    return reads_plain


def _text(said: Any) -> str:
    """A text as it is; of chat messages, or of the pieces of one, what they say in their order."""
    if isinstance(said, Mapping):
        said = "" if said.get("role") == "tool" else said.get("content", said.get("text"))
    return said if isinstance(said, str) else "".join(map(_text, said or ()))


def _chat(role: str, texts: Sequence) -> list:
    """Texts as lists of one message; what is one already stays."""
    return [[{"role": role, "content": t}] if isinstance(t, str) else t for t in texts]


def call_rewards(
    functions: Mapping[str, Reward], columns: Mapping[str, Any], seconds: float = SECONDS
) -> dict[str, list[float | None]]:
    """Name -> one value for each answer. The functions run beside each other, a thread each.

    columns  prompts, completions and whatever else the functions ask for, all of one length; every
             function gets all of them. Texts are handed over as chat messages to a function that
             says so: `completions: list[list[dict]]`, as TRL annotates its own.
    None means that an answer could not be checked (NaN says the same, as in TRL), also for all
    answers of a function that takes longer than `seconds`: it is warned of and left behind, since
    no thread can be killed. The limit cannot hold a function that keeps the interpreter to itself,
    in one long call of C: a regular expression with backtracking, 9**9**9. All threads stand still
    then, this one too, and the run with them. What may do so belongs into a process with a limit
    of its own, as mathematics and programs have here.
    Raises UserError for values that are not one number or None an answer. A function that limits
    its time by signals gets none in a thread: give it another limit (math-verify:
    parsing_timeout=None).
    """
    found: dict[str, Any] = {}
    roles = {"prompts": "user", "completions": "assistant"}
    chat = {**columns} | {name: _chat(role, columns[name]) for name, role in roles.items()}

    def run(name: str, function: Reward) -> None:
        try:
            asked = inspect.signature(function).parameters.get("completions")
            values = function(**chat if "dict" in str(asked).lower() else columns)
            found[name] = asyncio.run(values) if inspect.iscoroutine(values) else values
        except BaseException as error:  # the caller's thread raises it
            found[name] = error

    threads = {f[0]: Thread(target=run, args=f, daemon=True) for f in functions.items()}
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


def _checked(name: str, values: Any, n: int) -> list[float | None]:
    """Floats and None, of a list or tuple, an array or a tensor."""
    values = values.tolist() if hasattr(values, "tolist") else values
    if not isinstance(values, (list, tuple)) or len(values) != n:
        raise UserError(
            f"reward {name!r} gave {values!r:.80}: it must give a list of {n} values, one an "
            "answer. A value is a number, or None for what could not be checked."
        )
    numbers = [math.nan if value is None else _number(value) for value in values]
    if wrong := [value for value, number in zip(values, numbers) if math.isinf(number)]:
        raise UserError(
            f"reward {name!r} gave {wrong[0]!r}: a reward is a finite number, or None for what "
            "could not be checked. Fix the function."
        )
    return [None if math.isnan(number) else number for number in numbers]


def _number(value: Any) -> float:
    """What float() makes of a number, also of a 0-d array or tensor; inf of what is no number."""
    is_number = hasattr(value, "__float__") and not getattr(value, "ndim", 0)
    return float(value) if is_number else math.inf
