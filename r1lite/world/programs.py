"""Small programs: from three examples of a function, write its return line.

Answers are checked by running them on arguments that the question does not show.
"""

import random
from fractions import Fraction
from functools import cache

from ..records import Problem
from .common import made
from .expression import BadExpression, evaluate_expression

SHOWN = (1, 2, 3)
HIDDEN = (0, 4, 7, 9)  # the tests: arguments that the question does not show


@cache
def clusters() -> tuple[str, ...]:
    """Every program, e.g. "x * 2 + 3": linear ones and squares."""
    linear = [f"x * {a} + {b}" for a in range(1, 10) for b in range(13)]
    minus = [f"x * {a} - {b}" for a in range(2, 10) for b in range(1, min(a, 9) + 1)]
    return tuple(linear + minus + [f"x * x + {b}" for b in range(13)])


def run(program: str, x: int) -> Fraction:
    """Run `return <expression of x>`; raises BadExpression if that is not what it is."""
    if not program.strip().startswith("return "):
        raise BadExpression("a program starts with 'return'")
    return evaluate_expression(program.strip().removeprefix("return "), {"x": x}).value


def make(cluster: str, language: str, rng: random.Random) -> Problem:
    """The one problem of this program."""
    pairs = [[x, int(run(f"return {cluster}", x))] for x in SHOWN]
    shown = " , ".join(f"f ( {x} ) = {y}" for x, y in pairs)
    question = {"en": f"write f : {shown} .", "zh": f"写 f : {shown} 。"}[language]
    tests = [[x, int(run(f"return {cluster}", x))] for x in HIDDEN]
    name = cluster.replace(" ", "")
    return made("programs", name, cluster, language, question, tests=tests, shown=pairs)


def check(problem: Problem, answer: str) -> bool:
    """True if the program returns the right value on every shown and hidden argument."""
    try:
        cases = [*problem.gold["shown"], *problem.gold["tests"]]
        return bool(cases) and all(run(answer, x) == y for x, y in cases)
    except BadExpression:
        return False
