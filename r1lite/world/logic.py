"""Knights and knaves: knights always tell the truth, knaves always lie; who is who?

Three people speak once each; a puzzle is kept only if exactly one assignment fits, which
going through all eight decides.
"""

from __future__ import annotations

import itertools
import random
from functools import cache

from ..records import Problem
from .common import Draft, Voice

PEOPLE = ("A", "B", "C")
KINDS = {True: ("knight", "骑士"), False: ("knave", "无赖")}
SAME, DIFFER = ("same", "相同"), ("differ", "不同")
WORLDS = tuple(itertools.product((True, False), repeat=3))  # True: that person is a knight

# A statement is (kind, i, j): "is" says that person i is a knight (j = 1) or a knave (j = 0);
# "same" and "differ" compare persons i and j.
Statement = tuple[str, int, int]


def _statements(speaker: int) -> list[Statement]:
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


def _name(statement: Statement) -> str:
    return "".join(map(str, (statement[0][0], *statement[1:])))


def _cluster(statements: tuple[Statement, ...]) -> str:
    return "-".join(map(_name, statements))


@cache
def _puzzles() -> dict[str, tuple[Statement, ...]]:
    every = itertools.product(*(_statements(i) for i in range(3)))
    return {_cluster(p): p for p in every if len(fitting(p)) == 1}


def clusters() -> tuple[str, ...]:
    """Every puzzle with exactly one solution, e.g. "i11-s02-d01"."""
    return tuple(_puzzles())


def _say(statement: Statement, side: int) -> str:
    kind, i, j = statement
    if kind == "is":
        return f"{PEOPLE[i]} {KINDS[bool(j)][side]}"
    return f"{PEOPLE[i]} {PEOPLE[j]} {(SAME if kind == 'same' else DIFFER)[side]}"


def _ask(statements: tuple[Statement, ...], language: str) -> str:
    side = 0 if language == "en" else 1
    says = ("says", "说")[side]
    lines = " . ".join(f"{p} {says} {_say(s, side)}" for p, s in zip(PEOPLE, statements))
    return {"en": f"who is who ? {lines} .", "zh": f"谁 是 谁 ? {lines} 。"}[language]


def _describe(world: tuple[bool, ...], side: int) -> str:
    return " , ".join(f"{p} {KINDS[w][side]}" for p, w in zip(PEOPLE, world))


def _recall(statement: Statement, world: tuple[bool, ...], side: int) -> str:
    """The kinds, in a world, of the people that a statement is about.

    Said beside the statement, its truth can be read off the words before it. Without them the
    base judged 64 % of the statements right, little better than a coin.
    """
    kind, i, j = statement
    people = (i,) if kind == "is" else (i, j)
    return " ".join(f"{PEOPLE[p]} {KINDS[world[p]][side]}" for p in people)


def _verdict(
    speaker: int, statement: Statement, world: tuple[bool, ...], voice: Voice
) -> tuple[str, bool]:
    """What one speaker's words are worth in a world: as written down, and whether they fit."""
    side = 0 if voice.language == "en" else 1
    truth = holds(statement, world)
    fits = truth == world[speaker]
    return (
        f"{PEOPLE[speaker]} {_say(statement, side)} : {_recall(statement, world, side)}"
        f" {voice.say('true' if truth else 'false')} {KINDS[world[speaker]][side]}"
        f" {voice.say('yes' if fits else 'no')}"
    ), fits


def make(cluster: str, language: str, rng: random.Random) -> Problem:
    """The one problem of this puzzle."""
    statements = _puzzles()[cluster]
    return Problem(
        problem_id=f"logic/{cluster}/{language}",
        family="logic",
        cluster=cluster,
        language=language,
        question=_ask(statements, language),
        gold={"puzzle": cluster, "solution": list(fitting(statements)[0])},
    )


def check(problem: Problem, answer: str) -> bool:
    """True if the answer names the one fitting world, in either language."""
    solution = tuple(problem.gold["solution"])
    return " ".join(answer.split()) in (_describe(solution, 0), _describe(solution, 1))


def draft(problem: Problem, voice: Voice) -> Draft:
    """A guess, or a walk through the worlds that may stop too early."""
    rng, side = voice.rng, 0 if voice.language == "en" else 1
    if rng.random() < 0.4:
        guess = _describe(rng.choice(WORLDS), side)
        return Draft(f"{voice.say('maybe')} {guess}", guess)
    persistence = 0.97 if rng.random() < 0.15 else 0.65
    statements, text = _puzzles()[problem.gold["puzzle"]], ""
    start = rng.randrange(8)
    for world in WORLDS[start:] + WORLDS[:start]:
        text += f"{voice.say('try')} {_describe(world, side)} :"
        for speaker in range(3):
            verdict, fits = _verdict(speaker, statements[speaker], world, voice)
            text += f" {verdict} ,"
            if not fits:
                break
        text = text[:-1] + "."
        if fits:
            found = _describe(world, side)
            return Draft(f"{text} {voice.say('so')} {found}", found)
        if rng.random() > persistence:
            break
        text += f" {voice.say('wait')} , " if voice.reflects(0.5) else " "
    guess = _describe(rng.choice(WORLDS), side)
    return Draft(f"{text} {voice.say('give up')} , {voice.say('guess')} {guess}", guess)


def facts(voice: Voice, n: int) -> str:
    """Statements judged in random worlds, for the practice of judging.

    Three people speak who form no puzzle (no world fits, or several do), so that no held-out
    problem is read here. Each of the n worlds is gone through to the end.
    """
    rng, side = voice.rng, 0 if voice.language == "en" else 1
    statements = tuple(rng.choice(_statements(speaker)) for speaker in range(3))
    while _cluster(statements) in _puzzles():
        statements = tuple(rng.choice(_statements(speaker)) for speaker in range(3))
    text = _ask(statements, voice.language)
    for world in rng.sample(WORLDS, n):
        verdicts = [_verdict(s, statements[s], world, voice)[0] for s in range(3)]
        text += f" {voice.say('try')} {_describe(world, side)} : {' , '.join(verdicts)} ."
    return text
