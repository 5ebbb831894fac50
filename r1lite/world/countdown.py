"""Countdown: reach a target with each given number used once, by + - and *.

The search that documents write down is what a base model can later be reinforced for:
pick two numbers, combine them, try the third on the result, compare with the target. What is
left and what is wanted are said again beside each step: a tiny model finds them a few words
back long before it learns to look them up in the prompt.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
from functools import cache

from ..records import Problem
from .common import MAX_NUMBER, Draft, Voice
from .expression import BadExpression, evaluate_expression

LARGEST = 13  # numbers 1..13 make 455 sets of three
OPS = ("+", "-", "*")


def combine(a: int, op: str, b: int) -> tuple[str, int] | None:
    """One step as written ("9 - 4", larger number first) and its result; None if out of 0..100."""
    if op == "-" and b > a:
        a, b = b, a
    value = {"+": a + b, "-": a - b, "*": a * b}[op]
    return (f"{a} {op} {b}", value) if value <= MAX_NUMBER else None


def _lines(items: list[tuple[int, str]], goal: tuple[int, ...] = ()) -> set[tuple[int, str]]:
    """Every (value, expression) that uses all items once; an item is (value, its expression)."""
    if len(items) == 1:
        return {items[0]}
    found = set()
    for i, j in itertools.combinations(range(len(items)), 2):
        rest = [item for k, item in enumerate(items) if k not in (i, j)]
        for op in OPS:
            (a, ea), (b, eb) = items[i], items[j]
            if op == "-" and b > a:
                (a, ea), (b, eb) = (b, eb), (a, ea)
            step = combine(a, op, b)
            if step:
                found |= _lines([*rest, (step[1], f"( {ea} {op} {eb} )")])
    return found


@cache
def solutions(numbers: tuple[int, ...]) -> dict[int, tuple[str, ...]]:
    """Target -> expressions that reach it, for a sorted tuple of numbers."""
    table: dict[int, list[str]] = {}
    for value, text in sorted(_lines([(n, str(n)) for n in numbers])):
        table.setdefault(value, []).append(text[2:-2])
    return {value: tuple(texts) for value, texts in table.items()}


@cache
def clusters(n_numbers: int = 3, largest: int = LARGEST, smallest: int = 1) -> tuple[str, ...]:
    """Every set of numbers as a cluster name, e.g. "3-4-6"."""
    sets = itertools.combinations_with_replacement(range(smallest, largest + 1), n_numbers)
    return tuple("-".join(map(str, s)) for s in sets)


def _ask(target: int, numbers: list[int], language: str) -> str:
    listed = " ".join(map(str, numbers))
    return {"en": f"make {target} from {listed} .", "zh": f"用 {listed} 得 {target} 。"}[language]


def make(cluster: str, language: str, rng: random.Random) -> Problem:
    """One problem on this set of numbers: a random reachable target from 1 to 100."""
    numbers = [int(n) for n in cluster.split("-")]
    target = rng.choice([t for t in solutions(tuple(sorted(numbers))) if t >= 1])
    rng.shuffle(numbers)
    return Problem(
        problem_id=f"countdown/{'-'.join(map(str, numbers))}/{target}/{language}",
        family="countdown",
        cluster=cluster,
        language=language,
        question=_ask(target, numbers, language),
        gold={"numbers": numbers, "target": target},
    )


def check(problem: Problem, answer: str) -> bool:
    """True if the answer uses each given number exactly once and reaches the target."""
    try:
        found = evaluate_expression(answer)
    except BadExpression:
        return False
    return (
        sorted(found.numbers) == sorted(problem.gold["numbers"])
        and found.value == problem.gold["target"]
    )


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
        question=_ask(target, problem.gold["numbers"], problem.language),
        gold=problem.gold | {"target": target},
    )


def draft(problem: Problem, voice: Voice) -> Draft:
    """Write one document's thinking: a guess, or a search that may stop too early."""
    rng, numbers = voice.rng, list(problem.gold["numbers"])
    if problem.gold["target"] not in solutions(tuple(sorted(numbers))):
        return _search(problem, voice, persistence=0.97)
    if rng.random() < 0.30:
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
            f"{_ask(target, numbers, voice.language)} {voice.say('try')} {branch[0]} = {branch[1]}"
            f" {voice.say('left')} {c} : {leaf[0]} = {leaf[1]} vs {target}"
            f" {voice.say('yes' if hit else 'no')} ."
        )
    return " ".join(lines)
