"""Accuracy of programs: they are run on hidden tests in a jail (arXiv 2501.12948, 2.2.2).

The paper has "a compiler" give feedback on predefined tests for LeetCode problems. Right answers
never enter the jail: it returns what a program wrote, and the comparison is made out here.
"""

import atexit
import json
import math
import re
from collections.abc import Sequence
from functools import cache
from textwrap import dedent
from typing import Any

from ..prompt import Format, get_format
from ..records import UNCHECKED, Answer, Problem, UserError
from ..sandbox import Limits, Outcome, Program, Run, Sandbox
from .calls import plain_columns
from .reward import SECONDS

TIME = 0.9 * SECONDS  # for all answers of a call: after SECONDS none of its values would count
_FENCED = re.compile(r"(```|~~~)[^\n`~]*\n(.*?)\1", re.DOTALL)
_CHOSEN = {"jail": "auto"}


def use_sandbox(jail: str) -> None:
    """Choose the jail of every code reward from here on: see Sandbox. "unsafe" runs them as you."""
    _CHOSEN["jail"] = jail


@cache
def _sandbox(jail: str) -> Sandbox:
    made = Sandbox(jail)
    atexit.register(made.close)
    return made


@plain_columns
def code_reward(
    prompts: Sequence[str],
    completions: Sequence[str],
    *,
    problem: Sequence[Problem],
    parsed: Sequence[Answer] = (),
    **columns,
) -> list[float | None]:
    """1.0 if the program in the answer block passes every test, else 0.0.

    The paper's accuracy reward for code (arXiv 2501.12948: v1, 2.2.2; v2, p. 3): a compiler and
    predefined tests. Whether a share of them pays is not said; with gold["credit"] = "partial" it
    does here, from 0 to 1. The program is what the last fence of ``` or ~~~ holds, without the
    fence's indentation, else all of the answer. 0.0 without a compile, for an answer outside the
    format, and for no program at all. None for a problem without tests, to which it does not apply.
    UNCHECKED where nothing can be known: the jail had to be torn down, there is no compiler for C++
    here (which is said), or the answer's turn had not come or its run not ended within TIME.
    """
    ran = _run(problem, [answer.final for answer in parsed])
    return [grade_run(p, outcome) for p, outcome in zip(problem, ran)]


def run_answers(
    problems: Sequence[Problem], texts: Sequence[str], fmt: str | Format = "r1-zero"
) -> list[Outcome | None]:
    """What became of the program in each completion, None without one. Printed, it says what the
    compiler said."""
    return _run(problems, [get_format(fmt).split(text).final for text in texts])


def _run(problems: Sequence[Problem], finals: Sequence[str | None]) -> list[Outcome | None]:
    todo = [_program(p, final) for p, final in zip(problems, finals, strict=True)]
    rows = [row for row, program in enumerate(todo) if program]
    sandbox, limits = _sandbox(_CHOSEN["jail"]), _limits(problems, rows)
    ran = dict(zip(rows, sandbox.run([todo[row] for row in rows], limits, TIME)))
    return [ran.get(row) for row in range(len(todo))]


def _limits(problems: Sequence[Problem], rows: Sequence[int]) -> list[Limits]:
    try:
        return [Limits(**problems[row].gold.get("limits", {})) for row in rows]
    except TypeError as error:
        raise UserError(
            f"gold['limits'] of a problem: {error}. Use the fields of r1lite.sandbox.Limits."
        ) from None


def _program(problem: Problem, final: str | None) -> Program | None:
    """The program of a final answer; None if it holds none or the problem has no tests."""
    gold = problem.gold
    if not final or not gold.get("tests"):
        return None
    if problem.family == "programs":  # the tiny world: one return line of a function of x
        cases = [*gold["shown"], *gold["tests"]]
        source = f"def f(x):\n    {final}"
        return Program("python", source, tuple([x] for x, _ in cases), entry="f", stop_early=True)
    fenced = _FENCED.findall(final)
    return Program(
        gold.get("language", "python"),
        (dedent(fenced[-1][1]) if fenced else final) + gold.get("driver", ""),
        tuple(test["input"] for test in gold["tests"]),
        entry=gold.get("entry", ""),
        stop_early=gold.get("credit", "all") == "all",
    )


def grade_run(problem: Problem, outcome: Outcome | None) -> float | None:
    """What a run is worth: see code_reward. Without an outcome there was no program."""
    gold = problem.gold
    if not gold.get("tests"):
        return None
    if outcome is None:
        return 0.0
    if outcome.lost:
        return UNCHECKED
    if problem.family == "programs":
        expected = [y for _, y in (*gold["shown"], *gold["tests"])]
    else:
        expected = [test["output"] for test in gold["tests"]]
    called = problem.family == "programs" or gold.get("entry")
    same = _same_value if called else _same_output
    passed = [run.ok and same(want, run) for want, run in zip(expected, outcome.runs)]
    share = sum(passed) / len(expected)  # a run that was never made has not passed
    return share if gold.get("credit", "all") == "partial" else float(share == 1.0)


def _same_output(expected: Any, run: Run) -> bool:
    """Line by line to the very end; white space at the end of lines and of the text is free.

    A number that is expected counts as its text. A line ends with "\\n" or "\\r\\n", and with
    nothing else that str.splitlines knows.
    """
    want, got = (
        "\n".join(line.rstrip(" \t\r") for line in text.split("\n")).rstrip("\n")
        for text in (str(expected), run.stdout)
    )
    return want == got


def _same_value(expected: Any, run: Run) -> bool:
    try:
        return _equal(expected, json.loads(run.result))
    except (ValueError, RecursionError, OverflowError):  # 10**400 is no float
        return False


def _equal(want: Any, got: Any) -> bool:
    """Equal as JSON; floats within a billionth, True is not 1."""
    if isinstance(want, bool) or isinstance(got, bool):
        return want is got
    if isinstance(want, (int, float)) and isinstance(got, (int, float)):
        whole = isinstance(want, int) and isinstance(got, int)
        return want == got if whole else math.isclose(want, got, rel_tol=1e-9, abs_tol=1e-9)
    if isinstance(want, list) and isinstance(got, list):
        return len(want) == len(got) and all(map(_equal, want, got))
    if isinstance(want, dict) and isinstance(got, dict):
        return want.keys() == got.keys() and all(_equal(want[key], got[key]) for key in want)
    return type(want) is type(got) and want == got
