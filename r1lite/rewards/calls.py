"""Calling reward functions: all of them at once, none for longer than a limit.

As with TRL the data decide what a function gets: chat messages where the prompts are chat, else
texts. plain_columns and chat_columns let a reward that reads one of them take the other too.
"""

import asyncio
import contextlib
import functools
import inspect
import math
import time
import warnings
from collections.abc import Mapping, Sequence
from concurrent import futures
from threading import Thread
from typing import Any

from ..prompt import R1_ZERO
from ..records import UNCHECKED, Problem, UserError
from .reward import LIMIT, Reward, RewardFunction

FOR_ONE = ("text", "completion")  # a function of one of these alone is called for each completion
A_REWARD = (
    f"a reward is a finite number of at most {LIMIT:,.0f} either way, None where it does not "
    "apply, or NaN for what could not be checked"
)
Columns = Mapping[str, Any]
Values = list[float | None]
ROLES = {"prompts": "user", "completions": "assistant"}


def plain_columns(reward: RewardFunction) -> RewardFunction:
    """Let a reward that reads texts and Problems take chat messages and rows of a data set too.

    prompts, completions  texts, or lists of messages as TRL has them; what a tool said is left out
    problem               Problems, or the dicts that a datasets.Dataset makes of them
    parsed                the completions taken apart (records.Answer) for a reward that asks for
                          them; without them, as in TRL, they are read in R1-Zero's format
    """

    @functools.wraps(reward)
    def reads_plain(prompts, completions, **columns):
        completions = [*map(_text, completions)]
        if "problem" in columns:
            columns["problem"] = [
                Problem.from_dict(p) if isinstance(p, Mapping) else p for p in columns["problem"]
            ]
        if "parsed" in inspect.signature(reward).parameters and not columns.get("parsed"):
            columns["parsed"] = [*map(R1_ZERO.split, completions)]
        return reward([*map(_text, prompts)], completions, **columns)

    return reads_plain


def _text(message: Any) -> str:
    """A text as it is; of chat messages, or of the pieces of one, their texts in order."""
    if isinstance(message, Mapping):
        is_tool = message.get("role") == "tool"
        message = "" if is_tool else message.get("content", message.get("text"))
    return message if isinstance(message, str) else "".join(map(_text, message or ()))


def chat_columns(reward: RewardFunction) -> RewardFunction:
    """Let a reward that reads chat messages, as most of TRL's own do, take texts too."""

    @functools.wraps(reward)
    def reads_chat(**columns):
        return reward(**as_chat(columns))

    return reads_chat


def as_chat(columns: Columns) -> dict[str, Any]:
    """The columns, texts of prompts and completions as lists of one message; others stay."""
    chat = {
        name: [[{"role": role, "content": t}] if isinstance(t, str) else t for t in columns[name]]
        for name, role in ROLES.items()
        if name in columns
    }
    return {**columns, **chat}


def call_all(rewards: Sequence[Reward], columns: Columns) -> dict[str, Values]:
    """Name -> one value for each completion. The functions run beside each other, a thread each.

    columns  prompts, completions and whatever else the functions may ask for, all of one length; a
             function gets those that it has arguments for: see arguments_of
    None is the value where a reward does not apply, and UNCHECKED (NaN) where a completion could
    not be checked: also for all completions of a function that takes longer than Reward.seconds. It
    is warned of and left behind, since no thread can be killed. The limit cannot hold a function
    that keeps the interpreter to itself, in one long call of C: a regular expression with
    backtracking, 9**9**9. All threads stand still then, this one too, and the run with them. What
    may do so belongs into a process with a limit of its own, as mathematics and programs have here.
    Raises UserError for values that are not one number of at most LIMIT either way, None or NaN per
    completion, and for any error of a function: by name, with the row (from 0) where the function
    is called for each completion alone. A function that limits its time by signals gets none in a
    thread: give it another limit (math-verify: parsing_timeout=None).
    """
    begun, n = time.monotonic(), len(columns["completions"])
    values: dict[str, Values] = {reward.name: [None] * n for reward in rewards}
    asked = [(r, rows, futures.Future()) for r in rewards if (rows := _rows(r, columns))]
    for one in asked:
        Thread(target=_answer, args=(columns, *one), daemon=True).start()
    for reward, rows, future in asked:
        try:
            given = future.result(max(begun + reward.seconds - time.monotonic(), 0))
        except futures.TimeoutError:
            given = [UNCHECKED] * len(rows)
            warnings.warn(
                f"reward {reward.name!r} took longer than {reward.seconds:.0f} s and is left "
                f"behind: its {len(rows)} answers count as not checked",
                stacklevel=2,
            )
        for row, value in zip(rows, given, strict=True):
            values[reward.name][row] = value
    return values


def _answer(columns: Columns, reward: Reward, rows: list[int], future: futures.Future) -> None:
    """Do what a thread is for: the future gets the values, or the error for the caller's thread."""
    try:
        future.set_result(_checked(reward.name, _call(reward, columns, rows), columns, rows))
    except BaseException as error:
        future.set_exception(error)


def _rows(reward: Reward, columns: Columns) -> list[int]:
    """The rows whose problem a reward applies to: all without problems."""
    problems = columns.get("problem") or [None] * len(columns["completions"])
    who = f"`applies` of reward {reward.name!r}"
    applied = [p is None or _run(who, columns, reward.applies, [p], {}) for p in problems]
    return [i for i, applies in enumerate(applied) if applies]


def _call(reward: Reward, columns: Columns, rows: Sequence[int]) -> Any:
    """What the function gives for some rows; what is no column (trainer_state) stays as it is."""
    who = f"reward {reward.name!r}"
    columns = {k: [c[i] for i in rows] if isinstance(c, list) else c for k, c in columns.items()}
    arguments = _run(who, columns, arguments_of, [reward.name, reward.function, columns], {})
    if arguments is not None:
        return _run(who, columns, reward.function, *arguments)
    return [
        _run(f"{who}, row {row} ({text[:80]!r}),", columns, reward.function, [text], {})
        for row, text in zip(rows, map(_text, columns["completions"]))
    ]


def _run(who: str, columns: Columns, function: Any, args: Sequence, named: Columns) -> Any:
    """The function's value, with an `async def` run to its end; an error of it as a UserError."""
    try:
        value = function(*args, **named)
        return asyncio.run(value) if inspect.iscoroutine(value) else value
    except UserError:
        raise
    except BaseException as error:
        said, one = " ".join(str(error).split())[:200], columns["completions"][0]
        raise UserError(
            f"{who} raised {type(error).__name__}: {said}. The columns are {', '.join(columns)}; a "
            f"completion is {'a text' if isinstance(one, str) else 'a list of chat messages'} "
            "(chat_columns and plain_columns make one of the other). Fix the function."
        ) from error


def arguments_of(name: str, function: RewardFunction, columns: Columns) -> tuple | None:
    """The arguments (by position, by name) that a reward function is called with.

    A function gets the columns that it has arguments for, all of them for **columns; `texts` is
    another name for the completions. One whose `text` or `completion` is no column is called with
    the text of each completion alone, which None stands for.
    Raises UserError for arguments that are no column.
    """
    parameters = inspect.signature(function).parameters
    if "texts" in parameters:
        columns = {"texts": columns["completions"], **columns}
    by_position, by_name, missing = [], {}, []
    for p in parameters.values():
        if p.kind is p.VAR_KEYWORD:
            by_name = dict(columns)
        elif p.name in columns and p.kind is p.POSITIONAL_ONLY:
            by_position.append(columns[p.name])
        elif p.name in columns:
            by_name[p.name] = columns[p.name]
        elif p.default is p.empty and p.kind is not p.VAR_POSITIONAL:
            missing.append(p.name)
    if missing and missing[0] in FOR_ONE:
        return None
    if missing:
        raise UserError(
            f"reward {name!r} asks for {', '.join(map(repr, missing))}: the columns are "
            f"{', '.join(columns)}. A reward is f(completions), f(text) for one completion, or "
            "f(prompts, completions, **columns): change its arguments, or give them defaults."
        )
    return by_position, by_name


def _checked(name: str, values: Any, columns: Columns, rows: Sequence[int]) -> Values:
    """Floats, None and UNCHECKED for the rows, of a list or tuple, an array or a tensor."""
    values = values.tolist() if hasattr(values, "tolist") else values
    if not isinstance(values, (list, tuple)) or len(values) != len(rows):
        raise UserError(
            f"reward {name!r} gave {values!r:.80}: it must give a list of {len(rows)} values, one "
            f"per completion. {A_REWARD}."
        )
    numbers = [None if value is None else _number(value) for value in values]
    for row, value, number in zip(rows, values, numbers):
        if number is not None and abs(number) > LIMIT:
            raise UserError(
                f"reward {name!r} gave {value!r:.80}: {A_REWARD}. It is that of row {row} "
                f"({_text(columns['completions'][row])[:80]!r}). Fix the function."
            )
    return [x if x is None else UNCHECKED if math.isnan(x) else x for x in numbers]


def _number(value: Any) -> float:
    """What float() makes of a number, also of a 0-d array or tensor; inf of what is no number."""
    if hasattr(value, "__float__") and not getattr(value, "ndim", 0):
        with contextlib.suppress(ArithmeticError, TypeError, ValueError, RuntimeError):
            return float(value)
    return math.inf
