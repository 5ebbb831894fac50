"""Bugs that public replications of R1 have had in their rewards, one test each."""

import ast
import inspect
import threading
import time

import pytest
import torch

from r1lite import group_advantages, rewards
from r1lite.prompt import split_answer
from r1lite.records import UNCHECKED, Completion, Group, Problem
from r1lite.rewards import (
    RULES,
    accuracy_reward,
    code_reward,
    format_reward,
    is_right_output,
    maths_reward,
    score,
)
from r1lite.world import FAMILIES

GOOD = "<think> a </think> <answer> b </answer>"


def fmt(text: str) -> float:
    return format_reward(["q"], [text])[0]


def in_maths(gold: str, *finals: str) -> list[float | None]:
    texts = [f"<think> a </think> <answer> {final} </answer>" for final in finals]
    problem = Problem("p", "maths", "c", "en", "q", {"answer": gold})
    return maths_reward(["q"] * len(texts), texts, problem=[problem] * len(texts))


def countdown(numbers: list[int], target: int, final: str) -> float:
    text = f"<think> a </think> <answer> {final} </answer>"
    problem = Problem("p", "countdown", "c", "en", "q", {"numbers": numbers, "target": target})
    return accuracy_reward(["q"], [text], problem=[problem])[0]


@pytest.mark.parametrize("line", ["\n", "\r\n", "\n\n \n", "\u2028"])
def test_row_13_line_breaks_do_not_break_the_format(line):
    """Row 13: a pattern without DOTALL pays nothing for any answer of more than one line."""
    text = f"<think>{line}a{line}b{line}</think>{line}<answer>{line}c{line}d{line}</answer>{line}"
    assert fmt(text) == 1.0
    assert split_answer(text).final == f"c{line}d"


@pytest.mark.parametrize(
    "text",
    [
        f"{GOOD} {GOOD}",
        f"{GOOD} </answer>",
        f"<think> {GOOD}",
        "<think> a </think> <think> a </think> <answer> b </answer>",
        "<think> a </think> <answer> b </answer> <answer> b </answer>",
        f"{GOOD}<|im_end|>",
        f"{GOOD}\n<|im_end|>\n",
        f"<|im_start|>assistant\n{GOOD}",
        f"{GOOD} so b it is",
        f"{GOOD}.",
        f"well {GOOD}",
        "<think> a </think> so <answer> b </answer>",
        "<think></think> <answer> b </answer>",
        "<think> \n </think> <answer> b </answer>",
        "<think> a </think> <answer></answer>",
        "<think> a </think> <answer> \n </answer>",
    ],
)
def test_row_14_the_format_is_not_taken_leniently(text):
    """Row 14: duplicate tags, text outside, an empty thought or an empty answer were paid."""
    assert fmt(GOOD) == 1.0
    assert fmt(text) == 0.0


@pytest.mark.parametrize("gold", ["", " ", "?", r"\frac{", "\\", "{"])
def test_row_15_a_gold_that_cannot_be_read_pays_nobody(gold):
    """Row 15: where the gold could not be parsed, every answer got 1."""
    finals = ("1", gold.strip() or "2", "x", r"\boxed{}", "no answer")
    assert in_maths(gold, *finals) == [UNCHECKED] * 5
    problem = Problem("p", "maths", "c", "en", "q", {"answer": gold})
    texts = [f"<think> a </think> <answer> {final} </answer>" for final in finals]
    group = Group(problem, (1,), tuple(Completion((1,), (0.0,), text, False) for text in texts))
    rewards = score([group], {"accuracy": 1.0, "format": 1.0})[0].rewards
    assert rewards == (UNCHECKED,) * 5, "what one part is worth is not known, nor is the total"
    assert not group_advantages(torch.tensor([rewards])).any(), "so nobody learns anything"


def test_row_16_gold_comes_before_the_answer():
    """Row 16: verify(answer, gold) in place of verify(gold, answer); the two are not the same."""
    assert in_maths("1 < x < 2", "(1, 2)") == [1.0]
    assert in_maths("(1, 2)", "1 < x < 2") == [0.0]


def test_row_17_maths_is_graded_in_threads_too():
    """Row 17: a verifier that limits its time by signals fails outside the main thread, and its
    error was taken for a wrong answer: 0 for everyone."""
    found = {}

    def grade():
        found["thread"] = in_maths(r"\frac{1}{2}", "0.5", "0.6")

    thread = threading.Thread(target=grade)
    thread.start()
    thread.join(60)
    assert found["thread"] == in_maths(r"\frac{1}{2}", "0.5", "0.6") == [1.0, 0.0]


@pytest.mark.parametrize("family", FAMILIES)
def test_row_18_an_empty_answer_is_part_of_no_gold(family):
    """Row 18: `answer in gold` is true for an empty answer, and for any piece of the gold."""
    golds = {
        "countdown": {"numbers": [], "target": 0},
        "programs": {"tests": [[0, 0]], "shown": [[1, 1]]},
        "science": {"letter": "B"},
        "logic": {"solution": [True, True, False]},
        "chat": {"must": ["hello"], "must_not": []},
    }
    problem = Problem("p", family, "c", "en", "q", golds[family])
    for final in ("", " ", "\n", "\u00a0"):
        assert not is_right_output(problem, f"<think> a </think> <answer>{final}</answer>")
        assert not FAMILIES[family].check(problem, final)


def test_row_18_neither_part_of_the_gold_nor_more_than_it():
    """Row 18, in mathematics: "12" is part of "123", and "" of everything."""
    assert in_maths("123", "12", "23", "", "1234", "0123 1", r"\boxed{}") == [0.0] * 6


def test_row_19_no_text_of_a_model_is_run(tmp_path):
    """Row 19: eval() on what a model wrote, also in mathematics, runs it."""
    mark = tmp_path / "ran"
    code = f"__import__('pathlib').Path('{mark}').touch()"
    for final in (code, f"{code} or 21", f"[{code}]", f"\\boxed{{{code}}}", f"${code}$"):
        assert countdown([6, 4, 3], 21, final) == 0.0
        assert in_maths("21", final) == [0.0]
        program = Problem("p", "programs", "c", "en", "q", {"tests": [[0, 0]], "shown": [[1, 1]]})
        text = f"<think> a </think> <answer> return {final} </answer>"
        assert accuracy_reward(["q"], [text], problem=[program]) == [0.0]
    assert not mark.exists()
    for name, module in inspect.getmembers(rewards, inspect.ismodule):
        calls = [
            n for n in ast.walk(ast.parse(inspect.getsource(module))) if isinstance(n, ast.Call)
        ]
        assert not {getattr(c.func, "id", "") for c in calls} & {"eval", "exec"}, name


def test_row_19_the_readers_of_formulas_run_nothing_either(tmp_path):
    """Row 19: sympy's own reader of plain text uses eval; only its reader of LaTeX is asked."""
    mark = tmp_path / "ran"
    for final in (f"open('{mark}','w')", f"1 + open('{mark}','w')", f"(open)('{mark}','w')*0+1"):
        in_maths("1", final)
        in_maths(final, "1")
    assert not mark.exists()


@pytest.mark.parametrize(
    "text",
    [
        "<think> a",
        "<think> a </think>",
        "a </think>",
        "a </think> <answer> b </answer>",
        "<think> a <answer> b </answer>",
        "<answer> b </answer>",
        "<think> a </think> <answer> b",
        "<think> a </think> b </answer>",
        "<think> a </think> b",
    ],
)
def test_row_20_part_of_the_format_is_worth_nothing(text):
    """Row 20: points for each tag are points for never finishing."""
    assert fmt(text) == 0.0
    assert set(RULES) == {"accuracy", "format"}


@pytest.mark.parametrize(
    "program",
    [
        "while True: pass",
        "import os\nwhile os.fork() >= 0: pass",
        "x = bytearray(2**40)",
        "import urllib.request\nprint(urllib.request.urlopen('http://127.0.0.1').read())",
        "print(1)",
        "raise SystemExit(0)",
    ],
    ids=["no end", "fork", "memory", "network", "a prefix of the output", "exit 0"],
)
def test_row_21_what_a_program_does_is_paid_only_if_its_output_is_right(program):
    """All of it, in time; and the program after it is graded as ever."""
    gold = {"tests": [{"input": "", "output": "1\n2\n3"}], "limits": {"seconds": 0.5}}
    hidden = Problem("p", "code", "c", "en", "q", gold)
    answers = [f"<think> t </think> <answer> {text} </answer>" for text in (program, RIGHT_21)]
    assert code_reward(["q"] * 2, answers, problem=[hidden] * 2) == [0.0, 1.0]


RIGHT_21 = "for i in (1, 2, 3): print(i)"


@pytest.mark.parametrize(
    ("numbers", "target", "final"),
    [
        ([2, 3], 8, "2**3"),
        ([2, 3], 8, "2 ^ 3"),
        ([2, 5, 4], 10, "2.5*4"),
        ([7, 2], 3, "7//2"),
        ([7, 4], 3, "7 % 4"),
        ([2, 1], 21, "2_1"),
        ([6, 4, 3], 27, "6 * 4 - -3"),
        ([6, 4, 3], 21, "6 * 4 - 3 + 0"),
        ([9, 9, 9], 9, "9**9**9"),
        ([9, 9, 9], 9, "9 ** 9 ** 9 * 0 + 9"),
        ([9, 9, 9], 9, "9^9^9^9^9"),
    ],
)
def test_row_22_countdown_has_its_own_arithmetic_and_no_other(numbers, target, final):
    """Row 22: graders took 2**3, 2.5*4 and 7//2 for sums of the given numbers and hung on
    9**9**9."""
    begun = time.perf_counter()
    assert countdown(numbers, target, final) == 0.0
    assert time.perf_counter() - begun < 0.5
    assert countdown([6, 4, 3], 21, "6 * 4 - 3") == 1.0


def test_what_cannot_be_checked_is_no_reward_in_the_total():
    """Row 15 once more, as it reaches the advantages."""
    problem = Problem("p", "maths", "c", "en", "q", {"answer": r"\frac{"})
    answers = tuple(Completion((1,), (0.0,), text, False) for text in (GOOD, "b"))
    scored = score([Group(problem, (1,), answers)], {"maths": maths_reward})[0]
    assert scored.rewards == (UNCHECKED, UNCHECKED) and scored.parts["maths"] == (
        UNCHECKED,
        UNCHECKED,
    )
