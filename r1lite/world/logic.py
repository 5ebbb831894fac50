"""Knights and knaves: knights always tell the truth, knaves always lie; who is who?

Three people speak once each; a puzzle is kept only if exactly one assignment fits, which
going through all eight decides.
"""

import itertools
import random
from functools import cache

from ..records import Problem
from .common import MARKERS, made

PEOPLE = ("A", "B", "C")
KINDS = {True: ("knight", "骑士"), False: ("knave", "无赖")}
WORLDS = tuple(itertools.product((True, False), repeat=3))  # True: that person is a knight

# A statement is (kind, i, j): "is" says that person i is a knight (j = 1) or a knave (j = 0);
# "same" and "differ" compare persons i and j.
Statement = tuple[str, int, int]


def statements_of(speaker: int) -> list[Statement]:
    """Everything that this speaker may say."""
    others = [i for i in range(3) if i != speaker]
    about = [("is", i, j) for i in others for j in (0, 1)]
    return about + [
        (k, i, j) for k in ("same", "differ") for i, j in itertools.combinations(range(3), 2)
    ]


def holds(statement: Statement, world: tuple[bool, ...]) -> bool:
    """Whether a statement is true in a world."""
    kind, i, j = statement
    if kind == "is":
        return world[i] == bool(j)
    return (world[i] == world[j]) == (kind == "same")


def fitting(statements: tuple[Statement, ...]) -> list[tuple[bool, ...]]:
    """The worlds in which knights, and only they, have said something true."""
    return [w for w in WORLDS if all(holds(s, w) == w[i] for i, s in enumerate(statements))]


def _cluster(statements: tuple[Statement, ...]) -> str:
    return "-".join(f"{kind[0]}{i}{j}" for kind, i, j in statements)


@cache
def puzzles() -> dict[str, tuple[Statement, ...]]:
    """Cluster name -> what the three say."""
    every = itertools.product(*(statements_of(i) for i in range(3)))
    return {_cluster(p): p for p in every if len(fitting(p)) == 1}


def clusters() -> tuple[str, ...]:
    """Every puzzle with exactly one solution, e.g. "i11-s02-d01"."""
    return tuple(puzzles())


def say(statement: Statement, side: int) -> str:
    """A statement in words; side 0 is English, 1 Chinese."""
    kind, i, j = statement
    if kind == "is":
        return f"{PEOPLE[i]} {KINDS[bool(j)][side]}"
    return f"{PEOPLE[i]} {PEOPLE[j]} {MARKERS[kind][side]}"


def ask(statements: tuple[Statement, ...], language: str) -> str:
    """The question as it is put."""
    side = 0 if language == "en" else 1
    says = ("says", "说")[side]
    lines = " . ".join(f"{p} {says} {say(s, side)}" for p, s in zip(PEOPLE, statements))
    return {"en": f"who is who ? {lines} .", "zh": f"谁 是 谁 ? {lines} 。"}[language]


def describe(world: tuple[bool, ...], side: int) -> str:
    """A world in words, as an answer names it."""
    return " , ".join(f"{p} {KINDS[w][side]}" for p, w in zip(PEOPLE, world))


def make(cluster: str, language: str, rng: random.Random) -> Problem:
    """The one problem of this puzzle."""
    statements = puzzles()[cluster]
    gold = {"puzzle": cluster, "solution": list(fitting(statements)[0])}
    return made("logic", cluster, cluster, language, ask(statements, language), **gold)


def check(problem: Problem, answer: str) -> bool:
    """True if the answer names the one fitting world, in either language."""
    solution = tuple(problem.gold["solution"])
    return " ".join(answer.split()) in (describe(solution, 0), describe(solution, 1))
