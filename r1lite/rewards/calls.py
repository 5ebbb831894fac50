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
from collections.abc import Mapping, Sequence
from threading import Thread
from typing import Any

from ..prompt import R1_ZERO
from ..records import UNCHECKED, Problem, UserError
from .reward import Reward, RewardFunction

FOR_ONE = ("text", "completion")  # a function of one of these alone is called for each completion


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


def _chat(role: str, texts: Sequence) -> list:
    """Texts as lists of one message; what is one already stays."""
    return [[{"role": role, "content": t}] if isinstance(t, str) else t for t in texts]


def call_all(
    rewards: Sequence[Reward], columns: Mapping[str, Any]
) -> dict[str, list[float | None]]:
    """Name -> one value for each completion. The functions run beside each other, a thread each.

    columns  prompts, completions and whatever else the functions may ask for, all of one length; a
             function gets those that it has arguments for: see arguments_of. Texts are handed over
             as chat messages to a function that says so: `completions: list[list[dict]]`, as TRL
             annotates its own.
    None is the value where a reward does not apply, and UNCHECKED (NaN) where a completion could
    not be checked: also for all completions of a function that takes longer than Reward.seconds. It
    is warned of and left behind, since no thread can be killed. The limit cannot hold a function
    that keeps the interpreter to itself, in one long call of C: a regular expression with
    backtracking, 9**9**9. All threads stand still then, this one too, and the run with them. What
    may do so belongs into a process with a limit of its own, as mathematics and programs have here.
    Raises UserError for values that are not one number, None or NaN per completion. A function that
    limits its time by signals gets none in a thread: give it another limit (math-verify:
    parsing_timeout=None).
    """
    results: dict[str, Any] = {}
    rows = {reward.name: _rows(reward, columns) for reward in rewards}

    def run(reward: Reward) -> None:
        try:
            results[reward.name] = _call(reward, _at(columns, rows[reward.name]))
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
            given = _checked(reward.name, results[reward.name], len(applied))
        for row, value in zip(applied, given, strict=True):
            values[reward.name][row] = value
    return values


def _rows(reward: Reward, columns: Mapping[str, Any]) -> list[int]:
    """The rows whose problem a reward applies to: all without problems."""
    problems = columns.get("problem") or [None] * len(columns["completions"])
    return [i for i, p in enumerate(problems) if p is None or reward.applies(p)]


def _at(columns: Mapping[str, Any], rows: Sequence[int]) -> dict[str, Any]:
    """The columns at some rows; what is no column (trainer_state, log_metric) as it is."""
    n = len(columns["completions"])
    if len(rows) == n:
        return dict(columns)
    return {
        name: [column[i] for i in rows] if isinstance(column, list) else column
        for name, column in columns.items()
    }


def _call(reward: Reward, columns: dict[str, Any]) -> Any:
    """What the function gives, with an `async def` run to its end."""
    parameters = _parameters(reward.function)
    if "dict" in str(parameters.get("completions")).lower():
        for name, role in {"prompts": "user", "completions": "assistant"}.items():
            columns[name] = _chat(role, columns[name])
    arguments = arguments_of(reward.name, parameters, columns)
    if arguments is None:
        values = [reward.function(text) for text in columns["completions"]]
        return [asyncio.run(v) if inspect.iscoroutine(v) else v for v in values]
    values = reward.function(*arguments[0], **arguments[1])
    return asyncio.run(values) if inspect.iscoroutine(values) else values


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

    A function gets the columns that it has arguments for, all of them for **columns. One whose only
    argument without a default is no column gets the completions for it; if that is called `text` or
    `completion` it is called for each completion alone, which None stands for.
    Raises UserError for arguments that nothing can be handed in for.
    """
    kinds = inspect.Parameter
    takes_all = any(p.kind is kinds.VAR_KEYWORD for p in parameters.values())
    plain = [
        p for p in parameters.values() if p.kind not in (kinds.VAR_KEYWORD, kinds.VAR_POSITIONAL)
    ]
    missing = [p.name for p in plain if p.default is kinds.empty and p.name not in columns]
    needed = [p for p in plain if p.default is kinds.empty and p.kind is not kinds.KEYWORD_ONLY]
    if len(needed) == 1 and (missing or needed[0].kind is kinds.POSITIONAL_ONLY):
        if needed[0].name in FOR_ONE:
            return None
        if missing in ([], [needed[0].name]):
            return [columns["completions"]], {}
    if missing or any(p.kind is kinds.POSITIONAL_ONLY for p in needed):
        raise UserError(
            f"reward {name!r} asks for {', '.join(missing or [p.name for p in needed])}: a reward "
            "is f(completions), f(text) for one completion, or f(prompts, completions, **columns), "
            f"of {', '.join(columns)}. Change its arguments, or give them defaults."
        )
    named = {p.name for p in plain}
    return [], {key: value for key, value in columns.items() if takes_all or key in named}


def _checked(name: str, values: Any, n: int) -> list[float | None]:
    """Floats, None and UNCHECKED, of a list or tuple, an array or a tensor."""
    values = values.tolist() if hasattr(values, "tolist") else values
    if not isinstance(values, (list, tuple)) or len(values) != n:
        raise UserError(
            f"reward {name!r} gave {values!r:.80}: it must give a list of {n} values, one per "
            "completion. A value is a number, None where it does not apply, or NaN for what could "
            "not be checked."
        )
    numbers = [None if value is None else _number(value) for value in values]
    wrong = [value for value, x in zip(values, numbers) if x is not None and math.isinf(x)]
    if wrong:
        raise UserError(
            f"reward {name!r} gave {wrong[0]!r}: a reward is a finite number, None where it does "
            "not apply, or NaN for what could not be checked. Fix the function."
        )
    return [x if x is None else UNCHECKED if math.isnan(x) else x for x in numbers]


def _number(value: Any) -> float:
    """What float() makes of a number, also of a 0-d array or tensor; inf of what is no number."""
    is_number = hasattr(value, "__float__") and not getattr(value, "ndim", 0)
    return float(value) if is_number else math.inf
