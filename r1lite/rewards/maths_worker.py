"""Grades one answer in mathematics after the other, in a process of its own.

A script: nothing imports it. It reads [gold, answer] as lines of JSON and answers true, false, or
null where it cannot tell. Algebra may hang (9**9**9) or eat all memory; a process can be killed,
a thread cannot, and the time limits of math-verify are signals, which a thread never gets.

math-verify's grammar (latex2sympy) reads the formulas. What it would guess at is refused here, and
values are compared exactly: its own comparison takes all that is closer than 1e-15 for equal.
"""

import contextlib
import json
import logging
import re
import signal
import sys
from functools import lru_cache

MEMORY = 2 * 2**30  # bytes of address space
LIFE = 120  # seconds for one answer: whoever asked has long gone

logging.disable(logging.CRITICAL)
try:
    import sympy
    from latex2sympy2_extended import NormalizationConfig, latex2sympy
    from latex2sympy2_extended.latex2sympy2 import PSParser, _Latex2Sympy
    from math_verify import grader
    from sympy.core.function import AppliedUndef
except ImportError as error:  # whoever starts this tells the reader
    print(json.dumps(str(error)), flush=True)
    raise SystemExit(1) from None

NORMAL = NormalizationConfig(nits=True, malformed_operators=True, boxed="none")
NAMES = (sympy.Symbol, AppliedUndef)
GAP = r"(?:\\[,;:! ]|\{,\}|,\\!| )"
# What is written in a way that the grammar does not know or takes for something else: of 3(4) it
# makes 7. A base stays part of a number's name: 3 is no answer where 11_2 is asked for.
NUMERALS = (
    (rf"(?<![\d.,])([1-9]\d{{0,2}}(?:{GAP}\d{{3}})+)(?!\d)", lambda m: re.sub(r"\D", "", m[1])),
    (r"(?<![\d,(\[{])([1-9]\d{0,2}(?:,\d{3})+)(?![\d,)\]}])", lambda m: m[1].replace(",", "")),
    (rf"(?<![\w.)}}\]])(\d+){GAP}+(\d+)\s*/\s*(\d+)(?![\w.(])", r"\1\\frac{\2}{\3}"),
    (r"(\d*)\.(\d*)\\(?:overline|bar|dot)\s*\{?(\d+)\}?", lambda m: repeating(*m.groups())),
    (r"(?<![\w.])(\d+(?:\.\d*)?|\.\d+)[eE]([+-]?\d{1,3})(?![\w.])", r"(\1\\cdot10^{\2})"),
    (r"(?<![\w.\\])(\d+)_\{?\s*10\s*\}?(?!\d)", r"\1"),
    (
        r"(?<![\w.\\])(?=[A-Fa-f]*\d)([\dA-Fa-f]+)_\{?\s*(\d\d?)\s*\}?",
        lambda m: rf"\variable{{{m[1].lstrip('0')}base{m[2]}}}",
    ),
    (r"(?<![\w.^])(\d+(?:\.\d+)?)\s*(?=\(|\\[dt]?binom)|(?<=\))\s*(?=[\d(])", r"\1\\cdot "),
)
# also a base of what is none, and what the grammar would leave out: feet, derivatives, "and so on"
TWO_NUMBERS = re.compile(r"\d\s*_|(?<!_)[\d.]\s+\.?\d|\.\d*\.|['\"]|\\[lcdv]?dots")


def repeating(whole, once, again):
    nines = "9" * len(again) + "0" * len(once)
    return rf"\frac{{{int(whole + once + again)} - {int(whole + once or 0)}}}{{{nines}}}"


def whole(parser, math=PSParser.math):
    """The grammar stops where it understands no more: of "7 | 5" it would read 7."""
    found = math(parser)
    if parser.getCurrentToken().text != "<EOF>":
        raise ValueError("the text goes on")
    return found


def equal(want, got, *digits):
    """By exact algebra. math-verify would compare 15 digits, and 6 places of a decimal."""
    want, got = want.doit(), got.doit()
    if got.has(sympy.nan, sympy.zoo):
        return False
    found = want == got or want.equals(got)
    if found is None:
        raise ArithmeticError("neither proved nor disproved")
    return found


PSParser.math = whole
_Latex2Sympy.parse_number = lambda self, text: sympy.Rational(text.replace(",", ""))
grader.sympy_numeric_eq = equal
grader.sympy_symbolic_eq = grader.sympy_solve_and_compare = lambda *sides: False


@lru_cache(1000)
def read(text):
    """What the whole text means; raises an error if it means nothing."""
    text = " ".join(text.replace("\\$", "").strip(" $").split())
    for pattern, written in NUMERALS:
        text = re.sub(pattern, written, text, flags=re.ASCII)
    if not text or "$" in text or TWO_NUMBERS.search(text):
        raise ValueError("no formula")
    is_real = not grader.should_treat_as_complex(text)
    return latex2sympy(text, is_real=is_real, normalization_config=NORMAL)


def named(found):
    """Names and a value: (x) and 3 of x = 2 + 1 = 3, (x, y) and the pair (3, 4) of x = 3, y = 4,
    (x) and {1, 2} of x = 1, x = 2. No names of a value alone, nor of 2x = 3."""
    if isinstance(found, sympy.FiniteSet):
        pairs = sorted(map(named, found.args), key=str)
        names, values = sum((name for name, _ in pairs), ()), [value for _, value in pairs]
        if len({*names}) == 1:
            return names[:1], sympy.FiniteSet(*values)
        return (names, sympy.Tuple(*values)) if len({*names}) == len(pairs) else ((), found)
    if not grader.is_equation(found):
        return (), found
    links = getattr(found, "_unsorted_args", [found])
    parts = [links[0].lhs, *(link.rhs for link in links)]
    if isinstance(parts[-1], NAMES) and not isinstance(parts[0], NAMES):
        parts.reverse()
    names = (parts.pop(0),) if isinstance(parts[0], NAMES) else ()
    return (names, parts[-1]) if all(same(parts[-1], p) for p in parts[:-1]) else ((), found)


def same(gold, answer):
    """Whether two values are the same, by math-verify but for what it is too generous with: it
    drops any left side, names and the order, and takes {3,4} for (4,3)."""
    (names, want), (others, got) = named(gold), named(answer)
    if names and others and names != others:
        return False
    if got.has(sympy.Eq) or grader.is_relation(got) or grader.is_relation(want) and others:
        return grader.is_relation(gold) and grader.sympy_expr_eq(gold, answer, 0, 0)
    pair = [isinstance(value, (sympy.Tuple, sympy.Interval)) for value in (want, got)]
    if pair[0] is not pair[1] and isinstance((want, got)[pair[0]], sympy.FiniteSet):
        return False
    # the order of the two counts: for "1 < x < 2" an interval will do, not the reverse
    return grader.sympy_expr_eq(want, got, 0, 0)


def grade(gold, answer):
    """Whether two texts mean the same; None where the gold means nothing."""
    want = read(gold)
    if not same(want, want):
        return None
    try:
        found = read(answer)
    except (Exception, RecursionError):
        return False
    return bool(same(want, found))


def main():
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # Windows has none, and no alarm either

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    alarm = getattr(signal, "alarm", int)
    for line in sys.stdin:
        alarm(LIFE)
        try:
            said = grade(*json.loads(line))
        except (Exception, RecursionError):
            said = None
        alarm(0)
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
