"""Where problems come from, and how an answer to one is checked."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from ..records import Problem, UserError, is_text
from . import chat, countdown, logic, programs, science
from .checkers import (
    CHECKERS,
    FAMILIES,
    GOLD_LIKE,
    Checker,
    add_checker,
    check_answer,
    check_answers,
    check_leniently,
    checker_of,
)
from .common import LANGUAGES, is_held_out, keyed_order, keyed_rng, reflection_words
from .datasets import DATA_SETS, DataSet, last_boxed, layout_of, number_text, read_rows
from .files import file_rows

SPLITS = ("train", "held_out")


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
    made: dict[str, Problem] = {}
    for attempt in range(50 * n):
        cluster = order[attempt % len(order)]
        rng = keyed_rng(family, split, seed, attempt)
        problem = FAMILIES[family].make(cluster, rng.choice(LANGUAGES), rng)
        made.setdefault(problem.problem_id, problem)
        if len(made) == n:
            return list(made.values())
    raise UserError(
        f"{n} {split} problems of family {family!r} asked for: only {len(made)} were found. "
        f"Ask for at most {len(made)}."
    )


def read_problems(source: Path | str, to_train: bool = True) -> list[Problem]:
    """Problems by the name of a data set ("gsm8k", "math:test") or from a file or folder.

    Rows have the columns of Problem, with a family that has a checker, or those of a data set of
    DATA_SETS: GSM8K, MATH and MATH-500 become problems of family "maths"; nums and target family
    "countdown", of which only those are trained on whose set of numbers is not held out, and
    measured on only the others (one set in five, by the rule of problems that are made). What else
    counts as a source and as a test split: datasets.read_rows.
    to_train  False also reads test splits, which are there to measure on.
    Raises UserError naming file and row of a bad one, and for a test split to train on.
    """
    problems = []
    for name, where, row, data in read_rows(source, to_train):
        if "family" in row or "gold" in row:
            problems.append(_own_problem(row, where))
            continue
        data = data if data and data.fits(row) else layout_of(row, where)
        problem = data.to_problem(row, name, where, data)
        other_side = is_held_out(problem.family, problem.cluster) == to_train
        if not (data.split_by_cluster and other_side):
            problems.append(problem)
    if not problems:
        raise UserError(
            f"{source} holds no problems: at least one row is needed, of Countdown one whose set "
            f"of numbers is {'not ' if to_train else ''}held out, its side of the split."
        )
    return problems


def as_problems(rows: Iterable[Problem | Mapping[str, Any]]) -> list[Problem]:
    """Problems of what is in memory: Problems, or rows, which may be mixed.

    rows  with the columns of Problem, of which question, family and gold are needed; or with those
          of a data set of DATA_SETS. An answer without "####" is the gold as it is
    Raises UserError naming the number of a bad row.
    """
    if isinstance(rows, (str, Path, Mapping)):
        raise UserError(
            f"problems={str(rows)[:60]!r}: problems in memory are a list of Problems or of rows. "
            "Read those of a file or a data set with r1lite.read_problems."
        )
    problems = [
        row if isinstance(row, Problem) else _problem_in_memory(row, f"row/{i}", f"row {i}")
        for i, row in enumerate(rows, start=1)
    ]
    if not problems:
        raise UserError("problems is empty: at least one is needed. Hand in a list with one.")
    return problems


def _problem_in_memory(row: Any, name: str, where: str) -> Problem:
    if not isinstance(row, Mapping):
        raise UserError(f"{where} of problems is {row!r:.60}: it must be a Problem or a dict.")
    if "family" in row or "gold" in row:
        name = str(row.get("problem_id", name))
        return _own_problem({"problem_id": name, "cluster": name, "language": "en", **row}, where)
    data = layout_of(row, where)
    if data.columns == ("question", "answer") and "####" not in str(row["answer"]):
        data = replace(data, gold=str.strip, rule="an answer is the gold")
    return data.to_problem(row, name, where, data)


def _own_problem(row: Mapping[str, Any], where: str) -> Problem:
    problem = Problem.from_dict(row, where)
    family, gold = problem.family, problem.gold if isinstance(problem.gold, Mapping) else {}
    try:
        gold_keys = checker_of(family).gold_keys
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    if family == "maths" and "answer" in gold:
        gold["answer"] = number_text(gold["answer"]) or gold["answer"]
    like = GOLD_LIKE.get(family, {})
    for key in gold_keys:
        if key not in gold or not _is_like(gold[key], like.get(key)):
            what = f"has {key} {gold[key]!r:.60}" if key in gold else f"lacks {key}"
            raise UserError(
                f"{where}: gold {what}: the checker of family {family!r} needs "
                f"{like or ', '.join(gold_keys)} or the like. Correct it, or leave the row out."
            )
    return problem


def _is_like(value: Any, example: Any) -> bool:
    """Whether a value has the type of an example (None: any), and so have all that it holds.

    >>> _is_like([1, 2, 3], [7]), _is_like([1, "2"], [7]), _is_like("123", [7]), _is_like(True, 7)
    (True, False, False, False)
    """
    if isinstance(example, list):
        return isinstance(value, (list, tuple)) and all(_is_like(v, example[0]) for v in value)
    if isinstance(example, str):
        return is_text(value)
    return example is None or type(value) is type(example)
