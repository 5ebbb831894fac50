"""Where problems come from, and how an answer to one is checked."""

from functools import cache
from pathlib import Path
from typing import Any

from ..records import Problem, UserError
from . import chat, countdown, logic, programs, science
from .common import LANGUAGES, is_held_out, keyed_rng, reflection_words
from .datasets import countdown_problem, last_boxed, maths_problem, read_rows

FAMILIES = dict(countdown=countdown, programs=programs, science=science, logic=logic, chat=chat)
SPLITS = ("train", "held_out")
# What the checker of a family reads in Problem.gold.
GOLD_KEYS = {
    "countdown": ("numbers", "target"), "programs": ("tests", "shown"), "science": ("letter",),
    "logic": ("solution",), "chat": ("must", "must_not"),
    "maths": ("answer",),  # read from data sets, never generated; r1lite.rewards.maths checks it
}  # fmt: skip


def family_module(family: str):
    """The module of a family; raises UserError naming the known ones."""
    if family not in FAMILIES:
        raise UserError(
            f"family {family!r} is unknown: it must be one of {', '.join(FAMILIES)}. "
            "Set family= to one of those."
        )
    return FAMILIES[family]


def clusters(family: str, split: str) -> list[str]:
    """The clusters of one side of the split, in a fixed order."""
    if split not in SPLITS:
        raise UserError(f"split {split!r} is unknown: it must be one of {', '.join(SPLITS)}.")
    return list(_clusters(family_module(family), family, split == "held_out"))


@cache
def _clusters(module, family: str, held_out: bool) -> tuple[str, ...]:
    return tuple(c for c in module.clusters() if is_held_out(family, c) == held_out)


def make_problem(family: str, split: str, *key: object) -> Problem:
    """The problem that belongs to a key: same key, same problem, on every machine."""
    rng = keyed_rng(family, split, *key)
    names = clusters(family, split)
    return family_module(family).make(rng.choice(names), rng.choice(LANGUAGES), rng)


def make_problems(family: str, split: str, n: int, seed: int = 0) -> list[Problem]:
    """n problems with distinct ids; clusters are visited in turn, so that all count alike.

    Raises UserError if the family does not have that many.
    """
    names = clusters(family, split)
    order = keyed_rng(family, split, seed, "order").sample(names, len(names))
    found: dict[str, Problem] = {}
    for attempt in range(50 * n):
        cluster = order[attempt % len(order)]
        rng = keyed_rng(family, split, seed, attempt)
        problem = FAMILIES[family].make(cluster, rng.choice(LANGUAGES), rng)
        found.setdefault(problem.problem_id, problem)
        if len(found) == n:
            return list(found.values())
    raise UserError(
        f"{n} {split} problems of family {family!r} asked for: only {len(found)} were found. "
        f"Ask for at most {len(found)}."
    )


def read_problems(source: Path | str, to_train: bool = True) -> list[Problem]:
    """Problems by the name of a data set ("gsm8k", "math:test") or from a file or folder.

    Rows have the columns of Problem, or those of GSM8K, MATH or MATH-500: these become problems of
    family "maths"; or nums and target: family "countdown", of which only those are trained on whose
    set of numbers is not held out, and measured on only the others (one set in five, by the rule of
    problems that are made). What else counts as a source and as a test split: datasets.read_rows.
    to_train  False also reads test splits, which are there to measure on.
    Raises UserError naming file and row of a bad one, and for a test split to train on.
    """
    found = []
    for name, where, row in read_rows(source, to_train):
        if "family" in row or "gold" in row:
            found.append(_own_problem(row, where))
        elif "nums" in row and "target" in row:
            problem = countdown_problem(row, name, where)
            found += [problem] * (is_held_out("countdown", problem.cluster) != to_train)
        else:
            found.append(maths_problem(row, name, where))
    if not found:
        raise UserError(
            f"{source} holds no problems: at least one row is needed, of Countdown one whose set "
            f"of numbers is {'not ' if to_train else ''}held out, its side of the split."
        )
    return found


def _own_problem(row: dict[str, Any], where: str) -> Problem:
    problem = Problem.from_dict(row, where)
    if problem.family not in GOLD_KEYS:
        raise UserError(
            f"{where}: family {problem.family!r} is unknown: it must be one of "
            f"{', '.join(GOLD_KEYS)}. Change it to one of those."
        )
    gold = problem.gold if isinstance(problem.gold, dict) else {}
    missing = [key for key in GOLD_KEYS[problem.family] if key not in gold]
    if missing:
        raise UserError(
            f"{where}: gold lacks {', '.join(missing)}: the checker of family "
            f"{problem.family!r} needs {', '.join(GOLD_KEYS[problem.family])}. Add them."
        )
    return problem


def check_answer(problem: Problem, answer: str) -> bool:
    """Whether a final answer (tags already off) is right, by the checker of its family."""
    return family_module(problem.family).check(problem, answer)
