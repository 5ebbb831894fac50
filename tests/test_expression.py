"""The parser: without it, an answer could run code, hang the run or smuggle numbers in."""

import ast
import random
import time
from fractions import Fraction

import pytest

from r1lite.world.expression import MAX_DIGITS, MAX_TOKENS, BadExpression, evaluate_expression

REFUSED = [
    "",
    "   ",
    "2**3",
    "2 * * 3",
    "7//2",
    "7 / / 2",
    "9**9**9",
    "-3",
    "+3",
    "4 * -3",
    "( - 3 )",
    "6 % 4",
    "6 ^ 4",
    "6 4",
    "6 + ",
    "* 6",
    "( 6 + 4",
    "6 + 4 )",
    "()",
    "6 ( 4 )",
    "1.5 + 1",
    "1e9",
    "1_000",
    "0x10",
    "6 = 6",
    "6 , 4",
    "x + 1",
    "X + 1",
    "xy",
    "__import__('os').system('true')",
    "print(1)",
    "lambda: 1",
    "1 if 1 else 2",
    "٣ + 4",
    "６ + 4",
    "² + 4",
    "6 × 4",
    "6 − 4",
    "6 + 4 # 24",
    "6 + 4 ; 1",
    "6 / 0",
    "6 / ( 4 - 4 )",
    "6 / ( 4 - 2 * 2 )",
]


@pytest.mark.parametrize("text", REFUSED)
def test_nothing_but_plain_arithmetic_is_read(text):
    with pytest.raises(BadExpression) as caught:
        evaluate_expression(text)
    assert str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "9" * 1_000_000,
        "9" * (MAX_DIGITS + 1),
        "(" * 100_000,
        "(" * 100_000 + "1" + ")" * 100_000,
        "1" + " + 1" * 100_000,
        "1 " * 100_000,
        " " * 1_000_000,
        "9" * MAX_DIGITS + (" * " + "9" * MAX_DIGITS) * MAX_TOKENS,
    ],
    ids=["digits", "one digit more", "open", "nested", "long sum", "numbers", "blanks", "product"],
)
def test_hostile_sizes_are_refused_at_once(text):
    begun = time.perf_counter()
    with pytest.raises(BadExpression):
        evaluate_expression(text)
    assert time.perf_counter() - begun < 0.5


def test_the_largest_thing_allowed_is_quick():
    text = " * ".join(["9" * MAX_DIGITS] * (MAX_TOKENS // 2))
    begun = time.perf_counter()
    assert evaluate_expression(text).value == (10**MAX_DIGITS - 1) ** (MAX_TOKENS // 2)
    assert time.perf_counter() - begun < 0.5


@pytest.mark.parametrize(
    ("text", "value", "numbers"),
    [
        ("24", 24, (24,)),
        ("6*4", 24, (6, 4)),
        (" 6\n*\t4 ", 24, (6, 4)),
        ("2 + 3 * 4", 14, (2, 3, 4)),
        ("( 2 + 3 ) * 4", 20, (2, 3, 4)),
        ("9 - 4 - 3", 2, (9, 4, 3)),
        ("9 - ( 4 - 3 )", 8, (9, 4, 3)),
        ("24 / 4 / 2", 3, (24, 4, 2)),
        ("24 / ( 4 / 2 )", 12, (24, 4, 2)),
        ("7 / 2", Fraction(7, 2), (7, 2)),
        ("1 / 3 + 1 / 3 + 1 / 3", 1, (1, 3, 1, 3, 1, 3)),
        ("3 - 5", -2, (3, 5)),
        ("( ( ( 6 ) ) ) * 4", 24, (6, 4)),
    ],
)
def test_values_are_exact_and_every_number_is_listed(text, value, numbers):
    found = evaluate_expression(text)
    assert found.value == value
    assert isinstance(found.value, Fraction)
    assert found.numbers == numbers


def test_names_have_the_values_given_and_are_no_numbers():
    found = evaluate_expression("x * 2 + y", {"x": 3, "y": 4})
    assert (found.value, found.numbers) == (10, (2,))
    with pytest.raises(BadExpression):
        evaluate_expression("x * 2", {"y": 4})


def _python_value(node: ast.AST) -> Fraction:
    if isinstance(node, ast.Constant):
        return Fraction(node.value)
    a, b = _python_value(node.left), _python_value(node.right)
    if isinstance(node.op, ast.Add):
        return a + b
    if isinstance(node.op, ast.Sub):
        return a - b
    return a * b if isinstance(node.op, ast.Mult) else a / b


def _random_expression(rng: random.Random, depth: int) -> str:
    if depth == 0 or rng.random() < 0.2:
        return str(rng.randint(0, 100))
    a, b = (_random_expression(rng, depth - 1) for _ in range(2))
    text = f"{a} {rng.choice('+-*/')} {b}"
    return f"( {text} )" if rng.random() < 0.5 else text


def test_it_agrees_with_pythons_own_parser():
    """Precedence or associativity the wrong way round would show here."""
    rng, n_values = random.Random(0), 0
    for _ in range(2000):
        text = _random_expression(rng, 3)
        try:
            expected = _python_value(ast.parse(text, mode="eval").body)
        except ZeroDivisionError:
            with pytest.raises(BadExpression):
                evaluate_expression(text)
            continue
        assert evaluate_expression(text).value == expected, text
        n_values += 1
    assert n_values > 1000
