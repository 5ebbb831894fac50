"""Attacks on graders: those of data/attacks, and thousands that are drawn and judged otherwise."""

import ast
import json
import random
import re
import time
import unicodedata
from collections import Counter
from fractions import Fraction
from functools import partial
from pathlib import Path

import pytest

from r1lite.prompt import split_answer
from r1lite.records import UNCHECKED, Problem
from r1lite.rewards import (
    accuracy_reward,
    code,
    format_reward,
    language_reward,
    maths,
    maths_reward,
)
from r1lite.world.countdown import solutions

ATTACKS = json.loads(
    (Path(__file__).parents[1] / "data/attacks/graders.json").read_text(encoding="utf-8")
)
FAMILIES = ("countdown", "programs", "science", "maths", "format", "language")
RIGHT = {  # what the same graders do pay for
    "countdown": ({"numbers": [6, 4, 3], "target": 21}, "6 * 4 - 3 = 21"),
    "programs": ({"gold": {"shown": [[1, 5]], "tests": [[4, 11]]}}, "return x * 2 + 3"),
    "science": ({"gold": "B"}, "B"),
    "maths": ({"gold": "12"}, "12"),
    "format": ({"gold": None}, "anything"),
    "language": ({"gold": "en"}, "b"),
}


def grade_run(attack: dict) -> float | None:
    """What the grader of its family pays for an attack."""
    family, gold = attack["family"], attack.get("gold")
    golds = {
        "countdown": lambda: {"numbers": attack["numbers"], "target": attack["target"]},
        "programs": lambda: gold,
        "science": lambda: {"letter": gold},
        "maths": lambda: {"answer": gold},
    }
    language = gold if family == "language" else "en"
    problem = Problem("p", family, "c", language, "q", golds.get(family, dict)())
    graders = {"format": format_reward, "language": language_reward, "maths": maths_reward}
    grader = graders.get(family, accuracy_reward)
    return grader(["q"], [attack["answer"]], problem=[problem])[0]


def test_the_list_is_whole():
    assert len(ATTACKS) >= 60
    assert not [name for name, n in Counter(a["name"] for a in ATTACKS).items() if n > 1]
    assert {a["family"] for a in ATTACKS} == set(FAMILIES)
    for attack in ATTACKS:
        keys = {"numbers", "target"} if attack["family"] == "countdown" else {"gold"}
        assert {"name", "family", "answer", "why", "worth"} | keys <= set(attack)
        assert attack["worth"] in (0, None) and attack["why"] and attack["name"]


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_right_is_paid(family):
    """A grader that pays nothing would stand every attack."""
    gold, final = RIGHT[family]
    answer = f"<think> we think </think> <answer> {final} </answer>"
    assert grade_run({"family": family, "answer": answer} | gold) == 1.0


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: f"{a['family']}: {a['name']}")
def test_an_attack_gains_nothing(attack, monkeypatch):
    """Algebra gets 1.5 s here, so that what never ends need not be waited for."""
    quick = partial(maths.same_value, seconds=1.5 if attack["worth"] is None else maths.SECONDS)
    monkeypatch.setattr(maths, "same_value", quick)
    begun = time.perf_counter()
    worth = attack["worth"]
    if worth is None and attack["family"] == "maths":
        worth = UNCHECKED  # which JSON does not know
    assert [grade_run(attack)] == [worth], attack["why"]
    assert time.perf_counter() - begun < 10


@pytest.mark.parametrize(
    "piece",
    ["```", "```a", "```\n", "``` `", "~~~", "~~~a", "~~~\n", "```\n~~~", "~~~\n```", "~~~~`\n"],
)
def test_a_program_is_found_in_no_time(piece):
    """Fences without end: the time grew with the square of them, and no limit holds for a regular
    expression."""
    hidden = Problem("p", "code", "c", "en", "q", {"tests": [{"input": "", "output": "1"}]})
    text = f"<think> a </think> <answer> {piece * (160_000 // len(piece))} </answer>"
    begun = time.perf_counter()
    assert code._program(hidden, split_answer(text).final) is not None
    assert time.perf_counter() - begun < 3
    fenced = "<think> a </think> <answer> so ```python\nprint(1)\n``` </answer>"
    assert code._program(hidden, split_answer(fenced).final).source == "print(1)\n"


# Drawn answers. Every draw gives (problem, text) or (problem, text, verdict); the judges below
# share no code with the library.

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
PIECES = [
    "+", "-", "*", "/", "(", ")", "**", "//", "%", "=", "×", "−", "^", "!", ".", ",", "#", "\n",
    "\t", " ", "  ", "\u200b", "\u00a0", "0", "1", "7", "９", "²", "x", "or", "and", "eval", "21",
    "e1", "_", "'", "0x1", "+ 0", "* 1", "- -", "( )", "answer",
]  # fmt: skip
WRAPS = [
    "<think> a </think> <answer> {} </answer>",
    "<think>\n{}\n</think>\n<answer>\n{}\n</answer>",
    "<think> {} </think> <answer> 1 </answer>",
    "<think> a </think> <answer> {} </answer> {}",
    "<think> a </think> {}",
    "<answer> {} </answer>",
    "<think> </think> <answer> {} </answer>",
    "<think> a </think> <answer> <answer> {} </answer> </answer>",
    "{}",
]


def judged_final(text: str) -> str | None:
    """The answer block of a text in the format, by counting tags; else None."""
    pattern = r"</?(?:think|answer)>"
    between = [part.strip() for part in re.split(pattern, text)]
    if tuple(re.findall(pattern, text)) != TAGS or between[0] or between[2] or between[4]:
        return None
    for block in (between[1], between[3]):  # a sign without a width says nothing
        if all(unicodedata.category(sign)[0] in "CZ" for sign in block):
            return None
    return between[3]


def exact(node: ast.AST, numbers: list[int]) -> Fraction:
    """The value by Python's grammar, of numbers, + - * / and brackets and nothing else."""
    if isinstance(node, ast.Expression):
        return exact(node.body, numbers)
    if isinstance(node, ast.Constant) and type(node.value) is int:
        numbers.append(node.value)
        return Fraction(node.value)
    if isinstance(node, ast.BinOp):
        a, b = exact(node.left, numbers), exact(node.right, numbers)
        for kind, value in ((ast.Add, a + b), (ast.Sub, a - b), (ast.Mult, a * b)):
            if isinstance(node.op, kind):
                return value
        if isinstance(node.op, ast.Div):
            return a / b
    raise ValueError(type(node).__name__)


def evaluated(text: str) -> tuple[Fraction | None, list[int]]:
    """Value and numbers of an expression, or None and what was read up to the mistake."""
    plain = re.sub(r"\b0+(?=[0-9])", "", " ".join(text.split()))
    numbers: list[int] = []
    if not re.fullmatch(r"[0-9+\-*/() ]+", plain):
        return None, numbers
    try:
        return exact(ast.parse(plain.strip(), mode="eval"), numbers), numbers
    except (SyntaxError, ValueError, ZeroDivisionError):
        return None, numbers


def mangled(text: str, rng: random.Random, n: int) -> str:
    """Up to n pieces put in, put in place of something, or taken out."""
    for _ in range(rng.randint(0, n)):
        i = rng.randint(0, len(text))
        cut = i + rng.choice((0, 0, 1, 2))
        text = text[:i] + rng.choice([*PIECES, "", ""]) + text[cut:]
    return text


def wrapped(final: str, rng: random.Random) -> str:
    wrap = WRAPS[0] if rng.random() < 0.7 else rng.choice(WRAPS)
    text = wrap.replace("{}", final)
    return text if rng.random() < 0.9 else mangled(text, rng, 2)


def draw_countdown(rng: random.Random) -> tuple[Problem, str]:
    numbers = [rng.randint(1, 13) for _ in range(3)]
    table = solutions(tuple(sorted(numbers)))
    target = rng.choice(sorted(table))
    if rng.random() < 0.7:
        final = mangled(rng.choice(table[target]), rng, 2)
    else:
        pieces = [*map(str, numbers), str(target), *PIECES[:6], "(", ")"]
        final = " ".join(rng.choices(pieces, k=rng.randint(0, 9)))
    gold = {"numbers": numbers, "target": target}
    return Problem("p", "countdown", "c", "en", "q", gold), wrapped(final, rng)


def judge_countdown(problem: Problem, text: str) -> float:
    wanted = problem.gold
    sign = {"×": "*", "−": "-"}
    final = "".join(sign.get(letter, letter) for letter in judged_final(text) or "").split()
    while final and set(final[-1]) <= {"."}:
        final.pop()
    final = re.sub(r"\.+$", "", " ".join(final))
    final = re.sub(
        rf"^([^=]*) ?= ?{wanted['target']}$", r"\1", final
    )  # any other = is no arithmetic
    value, numbers = evaluated(final)
    return float(value == wanted["target"] and sorted(numbers) == sorted(wanted["numbers"]))


def draw_science(rng: random.Random) -> tuple[Problem, str]:
    letter = rng.choice("ABCD")
    pieces = [
        *"ABCDabcd",
        "Ａ",
        "В",
        ")",
        "(",
        ".",
        ",",
        " ",
        " or ",
        "\n",
        "\u200b",
        "not ",
        "[A-D]",
        "the answer is ",
        "option ",
        "Bohr",
        "A and ",
    ]
    final = letter if rng.random() < 0.3 else "".join(rng.choices(pieces, k=rng.randint(0, 5)))
    problem = Problem("p", "science", "c", "en", "q", {"letter": letter})
    return problem, wrapped(rng.choice(("", " ", "\n")) + final, rng)


def judge_science(problem: Problem, text: str) -> float:
    return float((judged_final(text) or "").split() == [problem.gold["letter"]])


def draw_format(rng: random.Random) -> tuple[Problem, str]:
    pieces = [
        *TAGS,
        *TAGS,
        "a",
        "6 * 4",
        "\n",
        " ",
        "",
        "<",
        ">",
        "think",
        "\u200b",
        "</",
        "<Think>",
    ]
    if rng.random() < 0.5:
        text = "".join(rng.choices(pieces, k=rng.randint(0, 12)))
    else:
        text = mangled("<think> a </think> <answer> b </answer>", rng, 2)
    return Problem("p", "format", "c", "en", "q", {}), text


def judge_format(problem: Problem, text: str) -> float:
    return float(judged_final(text) is not None)


GUESSES = [
    "{} or {}", "{} | {}", "{} ? {}", "{}\n{}", "{}; {}", "{} -> {}", "{} & {}", "{} ... {}",
    "{} 或 {}", "{} или {}", "\\boxed{{{}}} \\boxed{{{}}}", "${}$ ${}$", "${}$, or ${}$", "{}, {}",
    "\\boxed{{{} \\text{{ or }} {}}}", "{} \\lor {}", "{} \\cup {}", "{}\u200b {}",
    "\\({}\\) \\({}\\)",
    "x={} or x={}", "{} # {}", "{} and {}", "\\{{{}, {}\\}}", "{} \\text{{or}} {}",
    "either {} , {} ?",
]  # fmt: skip
DRESSES = [
    "{}", " {} ", "\\boxed{{{}}}", "${}$", "\\({}\\)", "x = {}", "the answer is {} .", "{} cm",
    "so it is \\boxed{{{}}}", "{} \\text{{ cm}}", "答案是 {}", "\\boxed{{ {} }} .", "\n{}\n",
]  # fmt: skip


def number(value: Fraction, rng: random.Random) -> str:
    """A fraction as it may be written."""
    sign, top, bottom = "-" * (value < 0), abs(value.numerator), value.denominator
    ways = [f"{value}", f"{sign}\\frac{{{top}}}{{{bottom}}}"]
    if bottom == 1:
        ways = [f"{value}", f"{value}", f"{value}.0", f"{sign}\\frac{{{3 * top}}}{{3}}"]
        ways += [f"{top:,}"] * (top >= 1000 and not sign)
    elif 1000 % bottom == 0:
        ways.append(f"{float(value)}")
    return rng.choice(ways)


def draw_maths(rng: random.Random) -> tuple[Problem, str, float]:
    """The verdict is known: the value, another value, two values, or an expression by ast."""
    value = Fraction(rng.randint(-2000, 2000), rng.choice((1, 1, 1, 2, 3, 4, 5, 7, 8)))
    other = value + rng.choice((-1, 1, 2, 10, Fraction(1, 2), Fraction(-1, 3)))
    kind, verdict = rng.choice(("same", "same", "other", "two", "two", "digits", "sum")), 0.0
    final = rng.choice(DRESSES).format(number(other, rng))
    if kind == "same":
        final, verdict = rng.choice(DRESSES).format(number(value, rng)), 1.0
        if "," in final:  # "x = 1,588" may mean two values
            final = final.replace("x = ", "")
    elif kind == "two":
        pair = [number(value, rng), number(other, rng)]
        rng.shuffle(pair)
        final = rng.choice(GUESSES).format(*pair)
    elif kind == "digits":
        value = abs(value) + 1
        shown = str(value.numerator)
        digits = rng.choice(("1{}", "{}1", "1{}1", "{}{}", "{} {}", "0.{}", "{}.5", "{}e2"))
        final = rng.choice(DRESSES).format(digits.replace("{}", shown))
    elif kind == "sum":
        final = mangled(" ".join(rng.choices(["2", "3", "5", "+", "-", "*"], k=5)), rng, 0)
        found, _ = evaluated(final)
        value = rng.choice((found, value)) if found is not None else value
        verdict = float(found == value)
    problem = Problem("p", "maths", "c", "en", "q", {"answer": number(value, rng)})
    return problem, WRAPS[0].replace("{}", final), verdict


SAID = {  # what may be said -> (who counts it, how many words it is)
    "we": ("en", 1), "multiply": ("en", 1), "Both": ("en", 1), "我们": ("zh", 1), "检查": ("zh", 1),
    "试": ("zh", 1), "先把两个数相": ("zh", 3), "мы": ("ru", 1), "দুটি": ("bn", 1), "நாம்": ("ta", 1),
    "ჯერ": ("ka", 1), "7": ("", 0), "x": ("", 0), "= 3 + 4": ("", 0), "vs": ("", 0), "!": ("", 0),
    "$the area = ab$": ("", 0), "`print(x)`": ("", 0), r"\frac": ("", 0), "<b>": ("", 0),
    "`我们`": ("zh", 1), r"\(мы\)": ("ru", 1), r"\[নাম\]": ("bn", 1), "$我们 ab$": ("zh", 1),
    "https://example.org/the": ("", 0),
}  # fmt: skip


def draw_language(rng: random.Random) -> tuple[Problem, str, float | None]:
    """The share is known, as it is known what each piece is."""
    language, pieces = rng.choice(("en", "zh", "ru")), rng.choices([*SAID], k=rng.randint(1, 12))
    problem = Problem("p", "chat", "c", language, "q", {})
    wrap = WRAPS[0] if rng.random() < 0.9 else "<think> a </think> {} <answer> b </answer>"
    text = wrap.replace("<think> a", "<think> " + " , ".join(pieces))
    said = [SAID[piece] for piece in pieces]
    total = sum(n for _, n in said)
    if wrap != WRAPS[0]:
        return problem, text, 0.0
    own = sum(n for who, n in said if who == language)
    return problem, text, own / total if total else None


def check_language(seed: int) -> float | None:
    problem, text, verdict = draw_language(random.Random(seed))
    assert language_reward(["q"], [text], problem=[problem]) == [verdict], (problem.language, text)
    return verdict


DRAWS = {
    "countdown": (draw_countdown, judge_countdown, accuracy_reward),
    "science": (draw_science, judge_science, accuracy_reward),
    "format": (draw_format, judge_format, format_reward),
}


def check_draw(family: str, seed: int) -> float:
    """Draw, grade and judge one answer; returns what it is worth."""
    draw, judge, grader = DRAWS[family]
    problem, text = draw(random.Random(seed))
    verdict = judge(problem, text)
    assert grader(["q"], [text], problem=[problem]) == [verdict], (problem.gold, text)
    return verdict


def check_maths(seeds: list[int]) -> list[float]:
    """The same for mathematics, several at once: each costs a process milliseconds."""
    drawn = [draw_maths(random.Random(seed)) for seed in seeds]
    problems, texts, verdicts = map(list, zip(*drawn, strict=True))
    found = maths_reward(["q"] * len(texts), texts, problem=problems)
    wrong = [
        (p.gold["answer"], text, value)
        for p, text, value, verdict in zip(problems, texts, found, verdicts, strict=True)
        if value != verdict
    ]
    assert not wrong, wrong
    return verdicts


@pytest.mark.parametrize(("family", "n"), [("countdown", 900), ("science", 400), ("format", 500)])
def test_drawn_answers_are_worth_what_another_judge_says(family, n):
    verdicts = [check_draw(family, seed) for seed in range(n)]
    assert 0.05 * n < sum(verdicts) < 0.6 * n, "both verdicts must occur"


def test_drawn_thoughts_are_worth_the_share_that_was_put_in():
    shares = Counter(check_language(seed) for seed in range(500))
    assert shares[1.0] > 5 and shares[0.0] > 20 and shares[None] > 3 and len(shares) > 20


def test_drawn_answers_in_mathematics_are_worth_what_is_known():
    verdicts = check_maths(list(range(200)))
    assert 40 < sum(verdicts) < 160
