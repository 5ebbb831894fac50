"""A parser for the arithmetic that models write. Never `eval`.

`eval` on model text runs whatever the model wrote; even a filtered one depends on `9**9**9`.
This one knows numbers, names, + - * / and brackets, is exact (fractions), and is bounded.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

MAX_TOKENS = 64
MAX_DIGITS = 9
_TOKEN = re.compile(r"\s*([0-9]+|[a-z]|[()+\-*/])")


class BadExpression(ValueError):
    """The text is not an expression; the message says why."""


@dataclass(frozen=True)
class Expression:
    """What an expression is worth and which number literals it used, in order of appearance."""

    value: Fraction
    numbers: tuple[int, ...]


def evaluate_expression(text: str, names: Mapping[str, int] | None = None) -> Expression:
    """Work out an arithmetic expression exactly.

    text   numbers, one-letter names, + - * / and round brackets; unary signs are refused,
           because a number that was not given must not be smuggled in
    names  values of the names, e.g. {"x": 3} for a program's argument
    Raises BadExpression on anything else, on division by zero and beyond the size limits.

    >>> evaluate_expression("( 6 + 4 ) * 3").value
    Fraction(30, 1)
    >>> evaluate_expression("x * 2 + 3", {"x": 5}).numbers
    (2, 3)
    """
    tokens = _tokenize(text)
    parser = _Parser(tokens, names or {})
    value = parser.sum()
    if parser.position != len(tokens):
        raise BadExpression(f"unexpected {tokens[parser.position]!r}")
    return Expression(value, tuple(parser.numbers))


def _tokenize(text: str) -> list[str]:
    tokens, position, text = [], 0, text.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if not match:
            raise BadExpression(f"cannot read {text[position : position + 10]!r}")
        if len(match[1]) > MAX_DIGITS:
            raise BadExpression(f"a number of more than {MAX_DIGITS} digits")
        tokens.append(match[1])
        position = match.end()
        if len(tokens) > MAX_TOKENS:
            raise BadExpression(f"more than {MAX_TOKENS} tokens")
    if not tokens:
        raise BadExpression("nothing there")
    return tokens


class _Parser:
    """Recursive descent; the token limit bounds its depth."""

    def __init__(self, tokens: list[str], names: Mapping[str, int]):
        self.tokens, self.names, self.position, self.numbers = tokens, names, 0, []

    def peek(self) -> str:
        return self.tokens[self.position] if self.position < len(self.tokens) else ""

    def take(self) -> str:
        token = self.peek()
        if not token:
            raise BadExpression("it ends too early")
        self.position += 1
        return token

    def sum(self) -> Fraction:
        value = self.product()
        while self.peek() in ("+", "-"):
            value = value + self.product() if self.take() == "+" else value - self.product()
        return value

    def product(self) -> Fraction:
        value = self.atom()
        while self.peek() in ("*", "/"):
            sign, factor = self.take(), self.atom()
            if sign == "/" and factor == 0:
                raise BadExpression("division by zero")
            value = value * factor if sign == "*" else value / factor
        return value

    def atom(self) -> Fraction:
        token = self.take()
        if token == "(":
            value = self.sum()
            if self.take() != ")":
                raise BadExpression("a bracket is not closed")
            return value
        if token.isdigit():
            self.numbers.append(int(token))
            return Fraction(int(token))
        if token in self.names:
            return Fraction(self.names[token])
        raise BadExpression(f"unexpected {token!r}")
