r"""Countdown's answers as other models than the tiny ones write them: signs, formulas, results."""

import json
import random
import time
from pathlib import Path

import pytest

from r1lite.records import Problem
from r1lite.rewards import is_right_leniently, is_right_output
from r1lite.world import check_answer
from r1lite.world.countdown import last_expression, solutions

RECORDED = Path(__file__).resolve().parents[1] / "data/recorded"
SIGNS = {  # an ordinary sign -> other ways to write it
    "*": ("×", "·", "⋅", r"\times ", r"\cdot "), "-": ("−", "–"), "/": ("÷", r"\div "),
    "(": ("（", r"\left("), ")": ("）", r"\right)"),
}  # fmt: skip
AROUND = (
    "{}", " {} ", "{}.", "{} .", "{}。", "${}$", "$ {} $.", "$${}$$", r"\({}\)", r"\[{}\]",
    r"\boxed{{}}", r"$\boxed{{}}$", r"\[ \boxed{ {} } \].", r"\boxed{${}$}", "${}.$", "\n{}\n",
)  # fmt: skip


def made(numbers, target):
    return Problem("p", "countdown", "c", "en", "", {"numbers": numbers, "target": target})


TO_21 = made([6, 4, 3], 21)


def dressed(text: str, around: str) -> str:
    return (
        around.replace("{}", text)
        if "{{}}" not in around
        else around.replace("{{}}", f"{{{text}}}")
    )


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("result", ["", " = 21", "=21", " = 21."])
def test_what_stands_around_an_expression_does_not_count(around, result):
    for text, right in (("6 * 4 - 3", True), ("6 + 4 - 3", False), ("6 * 4", False)):
        final = dressed(text + result, around)
        assert check_answer(TO_21, final) == right, final
        said = f"<think> t </think> <answer>{final}</answer>"
        assert is_right_output(TO_21, said) == right == is_right_leniently(TO_21, said), final


def test_signs_in_every_way_of_writing_are_the_same():
    """Drawn: an expression is right or wrong as it is with ordinary signs."""
    rng, verdicts = random.Random(0), []
    for _ in range(500):
        numbers = [rng.randint(1, 13) for _ in range(3)]
        table = solutions(tuple(sorted(numbers)))
        target, other = (rng.choice(sorted(table)) for _ in range(2))
        text = rng.choice(table[rng.choice((target, other))])
        written = "".join(rng.choice((sign, *SIGNS.get(sign, ()))) for sign in text)
        written = dressed(written, rng.choice(AROUND))
        verdicts.append(check_answer(made(numbers, target), text))
        assert check_answer(made(numbers, target), written) == verdicts[-1], (text, written)
        assert check_answer(made(numbers, target), f"{text} = {target}") == verdicts[-1]
        assert not check_answer(made(numbers, target), f"{text} = {target + 1}")
    assert 100 < sum(verdicts) < 450


def test_fractions_are_divisions():
    assert check_answer(made([12, 4, 5], 8), r"\frac{12}{4} + 5")
    assert check_answer(made([12, 4, 4], 2), r"$\dfrac{12 - 4}{4} = 2$")
    assert not check_answer(made([12, 4, 5], 8), r"\frac{12}{4 + 5}")


@pytest.mark.parametrize(
    "final",
    [
        "6 * 4 - 3 = 20", "6 * 4 - 3 = 2 1", "6 * 4 - 3 = 21 = 21", "6 * 4 = 24 - 3 = 21",
        "6 * 4 - 3 = 42 / 2", "6 * 4 - 3 = 21.0", "6 * 4 - 3 =", "= 21", "6 * 4 - 3 == 21",
        "21 = 6 * 4 - 3",  # asked for is the expression; its result may stand behind it
        "6 + 4 + 3 = 21", "6 * 4 - 3 ≈ 21", "6 * 4 - 3 = 21 , 3", ".6 * 4 - 3", "6. * 4 - 3",
        "$6 * 4 - 3$ or $6 + 4$", r"\boxed{6 * 4 - 3} \boxed{6 + 4}", r"\boxed{6} * \boxed{4} - 3",
        r"so \boxed{6 * 4 - 3}", "6 * 4 - 3}", r"6 \leftarrow 4", r"6 \timesx 4 - 3", "６ * 4 - 3",
        r"2\,1", r"\text{6 * 4 - 3}", "6 x 4 - 3", "6 * 4 − − 3", "−3 + 6 * 4", "$",
        r"\boxed{}", "=", r"\frac{6}{4", r"\frac{6 * 4 - 3}{}",
    ],
)  # fmt: skip
def test_what_says_something_else_is_wrong(final):
    assert not check_answer(TO_21, final)


def test_a_chain_of_results_stays_wrong():
    assert not check_answer(made([6, 4], 24), "6*4=24=25")
    assert not check_answer(made([6, 4], 24), "6*4=24=24")
    assert check_answer(made([3, 5], -2), "3 − 5 = −2")


@pytest.mark.parametrize(
    "piece", ["$", "\\boxed{", "\\frac{1", "\\times", "=", "×", "(", "\\", "．"]
)
def test_hostile_answers_take_no_time(piece):
    begun = time.perf_counter()
    for text in (piece * 100_000, piece * 50_000 + "6 * 4 - 3" + piece * 50_000):
        assert check_answer(TO_21, text) == (piece == "$" and "6" in text)
        last_expression(text)
    assert time.perf_counter() - begun < 3


def test_the_last_expression_is_found_in_formulas():
    for said, found in (
        (r"so $6 \times 4 - 3 = 21$.", "6 * 4 - 3"),
        (r"first 6 + 4, then \boxed{\left(6 \cdot 4\right) − 3}", "(6 * 4) - 3"),
        ("try 6 * 4 = 24 left 3 : 24 - 3 = 21 . so 6 * 4 - 3", "6 * 4 - 3"),
    ):
        assert last_expression(said) == found


def test_recorded_verdicts_of_the_tiny_world_stay():
    n_right = n_wrong = 0
    for path in sorted(RECORDED.glob("*/samples.jsonl")):
        for row in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            family, numbers, *_ = row["problem_id"].split("/")
            if family != "countdown":
                continue
            target = int(row["problem_id"].split("/")[2])
            problem = made([int(n) for n in numbers.split("-")], target)
            assert is_right_output(problem, row["answer"]) == row["right"], row
            n_right, n_wrong = n_right + row["right"], n_wrong + (not row["right"])
    assert n_right > 1000 and n_wrong > 1000
