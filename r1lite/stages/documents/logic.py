"""Knights and knaves: guesses, walks through the worlds, statements judged."""

from ...records import Problem
from ...world.logic import (
    KINDS,
    PEOPLE,
    WORLDS,
    Statement,
    ask,
    describe,
    fitting,
    holds,
    puzzles,
    say,
    statements_of,
)
from .common import Draft, Voice


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
        f"{PEOPLE[speaker]} {say(statement, side)} : {_recall(statement, world, side)}"
        f" {voice.say('true' if truth else 'false')} {KINDS[world[speaker]][side]}"
        f" {voice.say('yes' if fits else 'no')}"
    ), fits


def draft(problem: Problem, voice: Voice) -> Draft:
    """A guess, or a walk through the worlds that may stop too early."""
    rng, side = voice.rng, 0 if voice.language == "en" else 1
    if rng.random() < 0.4:
        guess = describe(rng.choice(WORLDS), side)
        return Draft(f"{voice.say('maybe')} {guess}", guess)
    persistence = 0.97 if rng.random() < 0.15 else 0.65
    statements, text = puzzles()[problem.gold["puzzle"]], ""
    start = rng.randrange(8)
    for world in WORLDS[start:] + WORLDS[:start]:
        text += f"{voice.say('try')} {describe(world, side)} :"
        for speaker in range(3):
            verdict, fits = _verdict(speaker, statements[speaker], world, voice)
            text += f" {verdict} ,"
            if not fits:
                break
        text = text[:-1] + "."
        if fits:
            found = describe(world, side)
            return Draft(f"{text} {voice.say('so')} {found}", found)
        if rng.random() > persistence:
            break
        text += f" {voice.say('wait')} , " if voice.reflects(0.5) else " "
    guess = describe(rng.choice(WORLDS), side)
    return Draft(f"{text} {voice.say('give up')} , {voice.say('guess')} {guess}", guess)


def facts(voice: Voice, n: int) -> str:
    """Statements judged in random worlds, for the practice of judging.

    Three people speak who form no puzzle (no world fits, or several do), so that no held-out
    problem is read here. Each of the n worlds is gone through to the end.
    """
    rng, side = voice.rng, 0 if voice.language == "en" else 1
    statements = tuple(rng.choice(statements_of(speaker)) for speaker in range(3))
    while len(fitting(statements)) == 1:
        statements = tuple(rng.choice(statements_of(speaker)) for speaker in range(3))
    text = ask(statements, voice.language)
    for world in rng.sample(WORLDS, n):
        verdicts = [_verdict(s, statements[s], world, voice)[0] for s in range(3)]
        text += f" {voice.say('try')} {describe(world, side)} : {' , '.join(verdicts)} ."
    return text
