"""Countdown: guesses, searches, bare sums and first tries.

The search that documents write down is what a base model can later be reinforced for:
pick two numbers, combine them, try the third on the result, compare with the target. What is
left and what is wanted are said again beside each step: a tiny model finds them a few words
back long before it learns to look them up in the prompt.
"""

import dataclasses
import random

from ...records import Problem
from ...world.common import MAX_NUMBER
from ...world.countdown import LARGEST, OPS, ask, combine, solutions
from .common import Draft, Voice


def _random_expression(numbers: list[int], rng: random.Random) -> str:
    a, b, c = rng.sample(numbers, 3)
    first, second = rng.choice(OPS), rng.choice(OPS)
    inner = f"( {max(a, b)} - {min(a, b)} )" if first == "-" else f"( {a} {first} {b} )"
    return f"{inner} {second} {c}"


def out_of_reach(problem: Problem, rng: random.Random) -> Problem:
    """The same numbers with a target that they cannot make: what only documents ask."""
    reached = solutions(tuple(sorted(problem.gold["numbers"])))
    target = rng.choice([t for t in range(1, MAX_NUMBER + 1) if t not in reached])
    return dataclasses.replace(
        problem,
        question=ask(target, problem.gold["numbers"], problem.language),
        gold=problem.gold | {"target": target},
    )


def draft(problem: Problem, voice: Voice) -> Draft:
    """Write one document's thinking: a guess, or a search that may stop too early."""
    rng, numbers = voice.rng, list(problem.gold["numbers"])
    if problem.gold["target"] not in solutions(tuple(sorted(numbers))):
        return _search(problem, voice, persistence=0.97)
    if rng.random() < 0.40:
        guess = _random_expression(numbers, rng)
        return Draft(f"{voice.say('maybe')} {guess}", guess)
    return _search(problem, voice, persistence=0.97 if rng.random() < 0.10 else 0.45)


def _branches(numbers: list[int], rng: random.Random) -> list[tuple[int, int, str, int]]:
    """(a, b, operation, the number left) of every branch: one walk in a circle, from anywhere.

    Each number is left over in turn, in the order of the question, and the others go through
    OPS. So the next branch can be read off the last one, and the end is the first one come
    round again. A model of this size cannot keep a list of what it has tried: with pairs in
    random order it came back to the same ones, trained by RL to search on, until it was cut off.
    """
    walk, seen = [], set()
    for i, left in enumerate(numbers):
        a, b = (n for k, n in enumerate(numbers) if k != i)
        if left not in seen:
            walk += [(a, b, op, left) for op in OPS if combine(a, op, b)]
        seen.add(left)
    start = rng.randrange(len(walk))
    return walk[start:] + walk[:start]


def _search(problem: Problem, voice: Voice, persistence: float) -> Draft:
    """Every branch once; after a failed one go on with chance `persistence`, or give up."""
    rng, target = voice.rng, problem.gold["target"]
    numbers = problem.gold["numbers"]
    text, branches = "", _branches(numbers, rng)
    for n, (a, b, op, c) in enumerate(branches, start=1):
        shown, value = combine(a, op, b)
        text += f"{voice.say('try')} {shown} = {value} {voice.say('left')} {c} :"
        for op2 in OPS:
            leaf = combine(value, op2, c)
            if leaf is None:
                continue
            hit = leaf[1] == target
            text += f" {leaf[0]} = {leaf[1]} vs {target} {voice.say('yes' if hit else 'no')} ,"
            if hit:
                larger_first = op2 != "-" or value >= c
                found = f"( {shown} ) {op2} {c}" if larger_first else f"{c} - ( {shown} )"
                text = text[:-1] + "."
                if voice.reflects(0.3, n_markers=2):
                    text += f" {voice.say('check')} {shown} = {value} , {leaf[0]} = {leaf[1]}"
                    text += f" {voice.say('yes')} ."
                return Draft(f"{text} {voice.say('so')} {found}", found)
        text = text[:-1] + "."
        if n < len(branches) and rng.random() < persistence:
            text += f" {voice.say('wait')} , " if voice.reflects(0.5) else " "
            continue
        guess = _random_expression(numbers, rng)
        return Draft(f"{text} {voice.say('give up')} , {voice.say('guess')} {guess}", guess)
    raise AssertionError(f"unreachable: {numbers} has no branch")


def facts(voice: Voice, n: int) -> str:
    """Bare sums and comparisons, without which the arithmetic stays too noisy for RL to pay."""
    rng, lines = voice.rng, []
    while len(lines) < n:
        step = combine(rng.randint(0, MAX_NUMBER), rng.choice(OPS), rng.randint(1, LARGEST))
        if step is None:
            continue
        shown, value = step
        if rng.random() < 0.5:
            lines.append(f"{shown} = {value}")
            continue
        hit = rng.random() < 0.4
        near = [v for v in range(value - 9, value + 10) if 0 <= v <= MAX_NUMBER and v != value]
        other = value if hit else rng.choice(near)
        lines.append(f"{shown} = {value} vs {other} {voice.say('yes' if hit else 'no')}")
    return " , ".join(lines) + " ."


def selections(voice: Voice, n: int) -> str:
    """First tries on numbers up to 50, at least one beyond 1..13.

    There are too many such sets to know them by heart, so the base learns to look the numbers up;
    and none of them is a held-out problem.
    """
    rng, lines = voice.rng, []
    while len(lines) < n:
        numbers = [rng.randint(1, MAX_NUMBER // 2) for _ in range(3)]
        a, b, op, c = _branches(numbers, rng)[0]
        branch = combine(a, op, b)
        leaf = combine(branch[1], rng.choice(OPS), c)
        if leaf is None or max(numbers) <= LARGEST:
            continue
        hit = rng.random() < 0.3
        target = leaf[1] if hit else rng.choice([t for t in range(1, 101) if t != leaf[1]])
        lines.append(
            f"{ask(target, numbers, voice.language)} {voice.say('try')} {branch[0]} = {branch[1]}"
            f" {voice.say('left')} {c} : {leaf[0]} = {leaf[1]} vs {target}"
            f" {voice.say('yes' if hit else 'no')} ."
        )
    return " ".join(lines)
