"""Countdown: reach a target with each given number used once, by + - and *."""

import itertools
import random
import re
from functools import cache

from ..records import Problem
from .common import MAX_NUMBER, made
from .expression import BadExpression, evaluate_expression

LARGEST = 13  # numbers 1..13 make 455 sets of three
OPS = ("+", "-", "*")
_ARITHMETIC = re.compile(r"[\d\s()+\-*/]+")
_BEFORE, _AFTER = " \t\r\n)+-*/", " \t\r\n(+-*/"  # what no expression begins or ends with
_SIGNS = str.maketrans("×·⋅∗÷−–（）$", "****/--() ")
_LATEX = {"times": "*", "cdot": "*", "ast": "*", "div": "/", "left": "", "right": ""}
_LATEX |= dict.fromkeys(",()[]", " ")  # a space, and where a formula begins and ends
_BOX = re.compile(r"\s*\\boxed\{(.*)\}[\s.。]*", re.DOTALL)


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


def ask(target: int, numbers: list[int], language: str) -> str:
    """The question as it is put."""
    listed = " ".join(map(str, numbers))
    return {"en": f"make {target} from {listed} .", "zh": f"用 {listed} 得 {target} 。"}[language]


def make(cluster: str, language: str, rng: random.Random) -> Problem:
    """One problem on this set of numbers: a random reachable target from 1 to 100."""
    numbers = [int(n) for n in cluster.split("-")]
    target = rng.choice([t for t in solutions(tuple(sorted(numbers))) if t >= 1])
    rng.shuffle(numbers)
    name, question = f"{'-'.join(map(str, numbers))}/{target}", ask(target, numbers, language)
    return made("countdown", name, cluster, language, question, numbers=numbers, target=target)


def plain(text: str) -> str:
    """Arithmetic as people and LaTeX write it, in the signs that the parser knows, without those
    around a formula."""
    text = text.translate(_SIGNS)
    text = re.sub(r"\\([a-z]+|[],()[])", lambda word: _LATEX.get(word[1], word[0]), text)
    return re.sub(r"\\d?frac *\{([^{}]*)\} *\{([^{}]*)\}", r"((\1)/(\2))", text)


def check(problem: Problem, answer: str) -> bool:
    """True if the answer uses each given number exactly once and reaches the target.

    It may be a formula of LaTeX, in a box, with a full stop behind it, and with = and the target
    behind it: on that side alone, and once.
    """
    text = plain(answer)
    box = _BOX.fullmatch(text)
    text, equals, result = (box[1] if box else text).rstrip(" \n.。").partition("=")
    if equals and result.strip() != str(problem.gold["target"]):
        return False
    try:
        expression = evaluate_expression(text)
    except BadExpression:
        return False
    return (
        sorted(expression.numbers) == sorted(problem.gold["numbers"])
        and expression.value == problem.gold["target"]
    )


def last_expression(text: str, last: str = "") -> str:
    """The last expression with an operator in it, whatever the tags around; "" without one."""
    runs = _ARITHMETIC.findall(re.sub(r"</?(think|answer)>", " | ", plain(text)))
    trimmed = [run.lstrip(_BEFORE).rstrip(_AFTER) for run in runs]
    expressions = [run for run in trimmed if any(operator in run for operator in "+-*/")]
    return expressions[-1] if expressions else ""
