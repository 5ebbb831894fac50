"""Calling reward functions: all of them at once, none for longer than a limit, and TRL's as ours.

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
from threading import Thread
from typing import Any

from ..prompt import R1_ZERO
from ..records import UNCHECKED, Problem, UserError
from .reward import LIMIT, Reward, RewardFunction

FOR_ONE = ("text", "completion")  # a function of one of these alone is called for each completion
ROLES = {"prompts": "user", "completions": "assistant"}


def plain_columns(reward: RewardFunction) -> RewardFunction:
    """Let a reward that reads texts and Problems take chat messages and rows of a data set too.

    prompts, completions  texts, or lists of messages as TRL has them; what a tool said is left out
    problem               Problems, or the dicts that a datasets.Dataset makes of them
    parsed                the completions taken apart (records.Answer) for a reward that asks for
                          them; without them, as in TRL, they are read in R1-Zero's format
    """
    reads_parsed = "parsed" in inspect.signature(reward).parameters

    @functools.wraps(reward)
    def reads_plain(prompts, completions, **columns):
        completions = [*map(_text, completions)]
        if "problem" in columns:
            columns["problem"] = [
                Problem.from_dict(p) if isinstance(p, Mapping) else p for p in columns["problem"]
            ]
        if reads_parsed and columns.get("parsed") is None:
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


def as_chat(columns: Mapping[str, Any]) -> dict[str, Any]:
    """The columns, texts of prompts and completions as lists of one message; others stay."""
    chat = {
        name: [[{"role": role, "content": t}] if isinstance(t, str) else t for t in columns[name]]
        for name, role in ROLES.items()
        if name in columns
    }
    return {**columns, **chat}


def call_all(
    rewards: Sequence[Reward], columns: Mapping[str, Any]
) -> dict[str, list[float | None]]:
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
    completion, and for any error of a function, which it names with the row (counted from 0) of a
    function that is called for each completion alone. A function that limits its time by
    signals gets none in a thread: give it another limit (math-verify: parsing_timeout=None).
    """
    results: dict[str, Any] = {}
    rows = {reward.name: _rows(reward, columns) for reward in rewards}

    def run(reward: Reward) -> None:
        try:
            results[reward.name] = _call(reward, columns, rows[reward.name])
        except BaseException as error:  # the caller's thread raises it
            results[reward.name] = error

    asked = [reward for reward in rewards if rows[reward.name]]
    threads = [Thread(target=run, args=(reward,), daemon=True) for reward in asked]
    for thread in threads:
        thread.start()
    begun, n = time.monotonic(), len(columns["completions"])
    values: dict[str, list[float | None]] = {reward.name: [None] * n for reward in rewards}
    for reward, thread in zip(asked, threads):
        thread.join(max(begun + reward.seconds - time.monotonic(), 0))
        applied = rows[reward.name]
        given = [UNCHECKED] * len(applied)
        if thread.is_alive():
            warnings.warn(
                f"reward {reward.name!r} took longer than {reward.seconds:.0f} s and is left "
                f"behind: its {len(applied)} answers count as not checked",
                stacklevel=2,
            )
        elif isinstance(results[reward.name], BaseException):
            raise results[reward.name]
        else:
            given = _checked(reward.name, results[reward.name], columns, applied)
        for row, value in zip(applied, given, strict=True):
            values[reward.name][row] = value
    return values


def _rows(reward: Reward, columns: Mapping[str, Any]) -> list[int]:
    """The rows whose problem a reward applies to: all without problems."""
    problems = columns.get("problem") or [None] * len(columns["completions"])
    who = f"`applies` of reward {reward.name!r}"
    return [
        i
        for i, p in enumerate(problems)
        if p is None or _run(who, columns, reward.applies, [p], {})
    ]


def _at(columns: Mapping[str, Any], rows: Sequence[int]) -> dict[str, Any]:
    """The columns at some rows; what is no column (trainer_state, log_metric) as it is."""
    n = len(columns["completions"])
    if len(rows) == n:
        return dict(columns)
    return {
        name: [column[i] for i in rows] if isinstance(column, list) else column
        for name, column in columns.items()
    }


def _call(reward: Reward, columns: Mapping[str, Any], rows: Sequence[int]) -> Any:
    """What the function gives for some rows."""
    columns, who = _at(columns, rows), f"reward {reward.name!r}"
    arguments = arguments_of(reward.name, _parameters(reward.function), columns)
    if arguments is not None:
        return _run(who, columns, reward.function, *arguments)
    texts = [*map(_text, columns["completions"])]
    return [
        _run(f"{who}, row {row} ({text[:80]!r}),", columns, reward.function, [text], {})
        for row, text in zip(rows, texts, strict=True)
    ]


def _run(who: str, columns: Mapping[str, Any], function: Any, args: Any, named: Any) -> Any:
    """The function's value, with an `async def` run to its end; an error of it as a UserError."""
    try:
        value = function(*args, **named)
        return asyncio.run(value) if inspect.iscoroutine(value) else value
    except UserError:
        raise
    except BaseException as error:
        is_chat = not all(isinstance(text, str) for text in columns["completions"])
        read = "chat messages (plain_columns" if is_chat else "texts (chat_columns"
        said = " ".join(str(error).split())[:200]
        raise UserError(
            f"{who} raised {type(error).__name__}: {said}. The columns are {', '.join(columns)}, "
            f"and completions are {read} lets it read the other). Fix the function, or let it "
            "give NaN for what cannot be checked."
        ) from error


def _parameters(function: RewardFunction) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except ValueError:  # some builtins have none: they get the completions
        only = inspect.Parameter.POSITIONAL_ONLY
        return {"completions": inspect.Parameter("completions", only)}


def arguments_of(
    name: str, parameters: Mapping[str, inspect.Parameter], columns: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]] | None:
    """The arguments (by position, by name) that a reward function is called with.

    A function gets the columns that it has arguments for, all of them for **columns; `texts` is
    another name for the completions. One whose only argument without a default is `text` or
    `completion` is called with the text of each completion alone, which None stands for.
    Raises UserError for arguments that are no column.
    """
    kinds = inspect.Parameter
    takes_all = any(p.kind is kinds.VAR_KEYWORD for p in parameters.values())
    plain = [
        p for p in parameters.values() if p.kind not in (kinds.VAR_KEYWORD, kinds.VAR_POSITIONAL)
    ]
    if "texts" in parameters:
        columns = {"texts": columns["completions"], **columns}
    needed = [p for p in plain if p.default is kinds.empty]
    missing = [p.name for p in needed if p.name not in columns]
    if len(needed) == 1 and missing and missing[0] in FOR_ONE:
        return None
    if missing:
        raise UserError(
            f"reward {name!r} asks for {', '.join(map(repr, missing))}: the columns are "
            f"{', '.join(columns)}. A reward is f(completions), f(text) for one completion, or "
            "f(prompts, completions, **columns): change its arguments, or give them defaults."
        )
    first = [p.name for p in needed if p.kind is kinds.POSITIONAL_ONLY]
    named = {p.name for p in plain if p.kind is not kinds.POSITIONAL_ONLY}
    by_name = {k: v for k, v in columns.items() if k in named or (takes_all and k not in first)}
    return [columns[key] for key in first], by_name


def _checked(
    name: str, values: Any, columns: Mapping[str, Any], rows: Sequence[int]
) -> list[float | None]:
    """Floats, None and UNCHECKED for the rows, of a list or tuple, an array or a tensor."""
    values = values.tolist() if hasattr(values, "tolist") else values
    if not isinstance(values, (list, tuple)) or len(values) != len(rows):
        raise UserError(
            f"reward {name!r} gave {values!r:.80}: it must give a list of {len(rows)} values, one "
            "per completion. A value is a number, None where it does not apply, or NaN for what "
            "could not be checked."
        )
    numbers = [None if value is None else _number(value) for value in values]
    for row, value, number in zip(rows, values, numbers, strict=True):
        if number is not None and abs(number) > LIMIT:
            text = _text(columns["completions"][row])
            raise UserError(
                f"reward {name!r} gave {value!r:.80}: a reward is a finite number of at most "
                f"{LIMIT:,.0f} either way, None where it does not apply, or NaN for what could "
                f"not be checked. It is that of row {row} ({text[:80]!r}). Fix the function."
            )
    return [x if x is None else UNCHECKED if math.isnan(x) else x for x in numbers]


def _number(value: Any) -> float:
    """What float() makes of a number, also of a 0-d array or tensor; inf of what is no number."""
    if hasattr(value, "__float__") and not getattr(value, "ndim", 0):
        with contextlib.suppress(ArithmeticError, TypeError, ValueError, RuntimeError):
            return float(value)
    return math.inf
