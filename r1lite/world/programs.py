"""Small programs: from three examples of a function, write its return line.

Answers are checked by running them on arguments that the question does not show.
"""

from __future__ import annotations

import random
from fractions import Fraction
from functools import cache

from ..records import Problem
from .common import Draft, Voice
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
    return Problem(
        problem_id=f"programs/{cluster.replace(' ', '')}/{language}",
        family="programs",
        cluster=cluster,
        language=language,
        question={"en": f"write f : {shown} .", "zh": f"写 f : {shown} 。"}[language],
        gold={"tests": [[x, int(run(f"return {cluster}", x))] for x in HIDDEN], "shown": pairs},
    )


def check(problem: Problem, answer: str) -> bool:
    """True if the program returns the right value on every shown and hidden argument."""
    try:
        cases = [*problem.gold["shown"], *problem.gold["tests"]]
        return bool(cases) and all(run(answer, x) == y for x, y in cases)
    except BadExpression:
        return False


def draft(problem: Problem, voice: Voice) -> Draft:
    """A blind guess, a right slope with a guessed offset, or the whole derivation."""
    rng = voice.rng
    y1, y2, y3 = (y for _, y in problem.gold["shown"])
    effort = rng.random()
    if effort < 0.40:
        line = f"return x * {rng.randint(1, 9)} + {rng.randint(0, 12)}"
        return Draft(f"{voice.say('maybe')} {line}", line)
    slope, linear = y2 - y1, y3 - y2 == y2 - y1
    text = f"{y2} - {y1} = {slope} , {y3} - {y2} = {y3 - y2}"
    text += f" {voice.say('same' if linear else 'differ')}"
    stem, first = (f"x * {slope}", slope) if linear else ("x * x", 1)
    text += f" {voice.say('so')} {stem} ."
    if effort < 0.62:
        line = f"return {stem} + {rng.randint(0, 12)}"
        return Draft(f"{text} {voice.say('maybe')} {line}", line)
    if y1 >= first:
        tail, work = f"+ {y1 - first}", f"{y1} - {first} = {y1 - first}"
    else:
        tail, work = f"- {first - y1}", f"{first} - {y1} = {first - y1}"
    text += f" {work} {voice.say('so')} {tail} ."
    if voice.reflects(0.4, n_markers=2):
        product = 3 * (slope if linear else 3)
        text += f" {voice.say('check')} 3 * {product // 3} = {product} , {product} {tail} = {y3}"
        text += f" vs {y3} {voice.say('yes')} ."
    line = f"return {stem} {tail}"
    return Draft(f"{text} {voice.say('so')} {line}", line)
