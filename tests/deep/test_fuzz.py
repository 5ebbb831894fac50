"""Thousands of invented texts against independent readings: Python's own parser, a tag counter."""

import ast
import re
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1lite.prompt import split_answer
from r1lite.world.expression import MAX_TOKENS, BadExpression, evaluate_expression

pytestmark = pytest.mark.deep
PIECES = st.lists(
    st.sampled_from(
        ["1", "2", "13", "100", "+", "-", "*", "/", "(", ")", "**", "//", "x", ".", ""]
    ),
    max_size=24,
)
TAGS = ("<think>", "</think>", "<answer>", "</answer>")
WORDS = st.lists(st.sampled_from([*TAGS, "a", "6 * 4", "\n", " ", ""]), max_size=10)


def python_value(node: ast.AST) -> Fraction:
    """The value by Python's grammar, of the nodes that r1lite allows and no others."""
    if isinstance(node, ast.Expression):
        return python_value(node.body)
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return Fraction(node.value)
    if isinstance(node, ast.BinOp):
        a, b = python_value(node.left), python_value(node.right)
        if isinstance(node.op, ast.Add):
            return a + b
        if isinstance(node.op, ast.Sub):
            return a - b
        if isinstance(node.op, ast.Mult):
            return a * b
        if isinstance(node.op, ast.Div):
            return a / b
    raise ValueError(ast.dump(node))


@settings(max_examples=20000, deadline=None)
@given(PIECES)
def test_the_parser_agrees_with_python(pieces):
    text = " ".join(pieces)
    try:
        expected = python_value(ast.parse(text.strip(), mode="eval"))
    except (SyntaxError, ValueError, ZeroDivisionError):
        expected = None
    try:
        found = evaluate_expression(text).value
    except BadExpression:
        found = None
    assert len(pieces) <= MAX_TOKENS
    assert found == expected, text


@settings(max_examples=20000, deadline=None)
@given(WORDS)
def test_the_strict_format_agrees_with_a_tag_counter(words):
    text = "".join(words)
    tags = re.findall(r"</?(?:think|answer)>", text)
    between = re.split(r"</?(?:think|answer)>", text)
    expected = (
        tags == list(TAGS)
        and not between[0].strip()
        and bool(between[1].strip())
        and not between[2].strip()
        and bool(between[3].strip())
        and not between[4].strip()
    )
    assert split_answer(text).is_well_formed == expected, text
