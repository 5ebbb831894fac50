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
from fractions import Fraction
from functools import cache

MEMORY = 2 * 2**30  # bytes of address space
LIFE = 120  # seconds for one answer: whoever asked has long gone

logging.disable(logging.CRITICAL)
try:
    import sympy
    from latex2sympy2_extended import NormalizationConfig, latex2sympy
    from latex2sympy2_extended.latex2sympy2 import And, PSParser, _Latex2Sympy
    from math_verify.grader import should_treat_as_complex
    from sympy.core.function import AppliedUndef
    from sympy.core.relational import Eq, Ne, Relational
except ImportError as error:  # whoever starts this tells the reader
    print(json.dumps(str(error)), flush=True)
    raise SystemExit(1) from None

NORMAL = NormalizationConfig(nits=True, malformed_operators=True, boxed="none")
_math, _product = PSParser.math, _Latex2Sympy.convert_postfix_list


def _whole(parser):
    """The grammar stops where it understands no more: of "7 | 5" it would read 7."""
    found = _math(parser)
    if parser.getCurrentToken().text != "<EOF>":
        raise ValueError("the text goes on")
    return found


def _side_by_side(self, factors, i=0):
    """A fraction behind a whole number is a mixed number, another number there is two numbers, and
    all else is a product: the grammar takes the sum of 48 24, and of 3(4)."""
    if i + 1 == len(factors):
        return _product(self, factors, i)
    left, right = factors[i].getText(), factors[i + 1].getText()
    part = left.isdecimal() and re.fullmatch(r"\\frac\{(\d+)\}\{(\d+)\}", right)
    if right[0] in "0123456789." or part and int(part[1]) >= int(part[2]):
        raise ValueError("two numbers")
    first, rest = self.convert_postfix(factors[i]), i + 1
    if part:
        first, rest = first + sympy.Rational(*map(int, part.groups())), i + 2
    if rest == len(factors):
        return first
    if isinstance(first, list):  # d/dx
        return _product(self, factors, i)
    second = _side_by_side(self, factors, rest)
    is_matrix = getattr(first, "is_Matrix", False) or getattr(second, "is_Matrix", False)
    return (self.mat_mul_flat if is_matrix else self.mul_flat)(first, second)


PSParser.math = _whole
_Latex2Sympy.convert_postfix_list = _side_by_side
_Latex2Sympy.parse_number = lambda self, text: sympy.Rational(text.replace(",", ""))


def _digits(found):
    return re.sub(r"\D", "", found[1])


def _ratio(value):
    return rf"\frac{{{value.numerator}}}{{{value.denominator}}}"


def _repeating(found):
    whole, before, again = found.groups()
    once = Fraction(int(again), 10 ** len(again) - 1) + int(whole + before or "0")
    return _ratio(once / 10 ** len(before))


def _in_base(found):
    """11_2 as a name of its own: 3 is no answer where it is asked for, nor is 11."""
    digits, base = found[1].lower().lstrip("0") or "0", int(found[2])
    if base == 10 and digits.isdecimal():
        return digits
    fits = all(int(digit, 36) < base for digit in digits)
    return rf"\variable{{{digits}base{base}}}" if fits else found[0]


_GAP = r"(?:\\[,;:! ]|\{,\}|,\\!| )"
NUMERALS = (  # what is written in a way that the grammar does not know
    (rf"(?<![\d.,])([1-9]\d{{0,2}}(?:{_GAP}\d{{3}})+)(?!\d)", _digits),
    (r"(?<![\d,(\[{])([1-9]\d{0,2}(?:,\d{3})+)(?![\d,)\]}])", _digits),
    (rf"(?<![\w.)}}\]])(\d+){_GAP}+(\d+)\s*/\s*(\d+)(?![\w.(])", r"\1\\frac{\2}{\3}"),
    (r"(\d*)\.(\d*)\\(?:overline|bar|dot)\s*\{?(\d+)\}?", _repeating),
    (
        r"(?<![\w.])(?:\d+(?:\.\d*)?|\.\d+)[eE][+-]?\d{1,3}(?![\w.])",
        lambda m: _ratio(Fraction(m[0])),
    ),
    (r"(?<![\w.\\])([0-9A-Fa-f]*\d[0-9A-Fa-f]*)_\{?\s*(\d{1,2})\s*\}?", _in_base),
)


@cache
def read(text):
    """What the whole text means; raises an error if it means nothing."""
    text = " ".join(text.replace("\\$", "").strip(" $").split())
    for pattern, written in NUMERALS:
        text = re.sub(pattern, written, text, flags=re.ASCII)
    if not text or "$" in text or re.search(r"\d\s*_", text):
        raise ValueError("no formula")
    is_real = not should_treat_as_complex(text)
    return latex2sympy(text, is_real=is_real, normalization_config=NORMAL)


def chain(found):
    """The relations of a = b < c, one after the other; none of what is no relation."""
    if isinstance(found, And):
        return list(found._unsorted_args)
    return [found] if isinstance(found, Relational) else []


def named(found):
    """(x, 3) of x = 3 and of x = 2 + 1 = 3; a value alone has no name, nor has 2x = 3."""
    links = chain(found)
    if not links or not all(isinstance(link, Eq) for link in links):
        return None, found
    parts = [links[0].lhs, *(link.rhs for link in links)]
    if isinstance(parts[-1], NAMES) and not isinstance(parts[0], NAMES):
        parts.reverse()
    name = parts.pop(0) if isinstance(parts[0], NAMES) else None
    agree = all(same(parts[-1], part) for part in parts[:-1])
    return (name, parts[-1]) if agree else (None, found)


def together(found):
    """Of x = 3, y = 4 values by names, of x = 1, x = 2 a set, and of a set of one its element."""
    if not isinstance(found, sympy.FiniteSet) or not found.args:
        return found
    pairs = sorted(map(named, found.args), key=str)
    names = {name for name, _ in pairs}
    if None not in names and len(names) == len(pairs) > 1:
        return dict(pairs)
    if len(names) == 1:
        found = sympy.FiniteSet(*(value for _, value in pairs))
    return found.args[0] if len(found.args) == 1 else found


def in_order(found):
    """The values of a pair, also of (1,2), which may be an interval, and of names in their order."""
    if isinstance(found, sympy.Interval):
        return found.args[:2] if found.left_open and found.right_open else ()
    return (
        (*found.values(),) if isinstance(found, dict) else isinstance(found, sympy.Tuple) and found
    )


def same(gold, answer):
    """Whether two values are the same; None where that cannot be told. The order counts: x = 3
    answers "3", and for "1 < x < 2" an interval will do, not the reverse."""
    (name, want), (other, got) = named(gold), named(answer)
    if name is not None and other is not None and name != other:
        return False
    wanted, found = chain(want), chain(got)
    if wanted and isinstance(got, sympy.Set):
        return same(sympy.And(*wanted).as_set(), got)
    if wanted or found:
        if name is not None and want.free_symbols:  # y = 2x + 1, where 2x - y + 1 = 0 is said
            wanted = chain(gold)
        return matched(wanted, found or chain(answer), same_relation)
    want, got = together(want), together(got)
    if isinstance(want, LISTS) or isinstance(got, LISTS):
        if isinstance(want, dict) and isinstance(got, dict) and [*want] != [*got]:
            return False
        want, got = in_order(want) or (), in_order(got) or ()
        return len(want) == len(got) > 0 and all(map(same, want, got))
    if isinstance(want, sympy.Set) or isinstance(got, sympy.Set):
        return isinstance(want, sympy.Set) and isinstance(got, sympy.Set) and same_set(want, got)
    return equal(want, got)


def same_set(want, got):
    if isinstance(want, sympy.FiniteSet) and isinstance(got, sympy.FiniteSet):
        return matched(want.args, got.args, same)
    if isinstance(want, sympy.Interval) and isinstance(got, sympy.Interval):
        return want.args[2:] == got.args[2:] and all(map(same, want.args[:2], got.args[:2]))
    return want.doit() == got.doit()


def same_relation(want, got):
    """Whether two relations hold at the same places: one side times a number is the other's."""
    equation = isinstance(want, (Eq, Ne))
    if equation and want.func is not got.func or equation is not isinstance(got, (Eq, Ne)):
        return False
    if equation:
        ratio = sympy.simplify(((want.lhs - want.rhs) / (got.lhs - got.rhs)).doit())
        return ratio.is_positive or ratio.is_negative
    if isinstance(want, STRICT) is not isinstance(got, STRICT):
        return False
    return sympy.simplify(((want.gts - want.lts) / (got.gts - got.lts)).doit()).is_positive


def matched(wanted, found, alike):
    """Whether each has its like on the other side."""
    table = [[bool(alike(want, got)) for got in found] for want in wanted]
    return len(wanted) == len(found) > 0 and all(map(any, table)) and all(map(any, zip(*table)))


def equal(want, got):
    """By exact algebra, never by digits. What is not defined equals nothing, itself neither."""
    want, got = want.doit(), got.doit()
    if want.has(sympy.nan, sympy.zoo) or got.has(sympy.nan, sympy.zoo):
        return False
    if want == got:
        return True
    if getattr(want, "is_Matrix", False) and getattr(got, "is_Matrix", False):
        return want.shape == got.shape and all(map(same, want, got))
    if not isinstance(want, sympy.Expr) or not isinstance(got, sympy.Expr):
        return False
    return (want - got).equals(0)


NAMES = (sympy.Symbol, AppliedUndef)
LISTS = (dict, sympy.Tuple)
STRICT = (sympy.StrictLessThan, sympy.StrictGreaterThan)


def grade(gold, answer):
    """Whether two texts mean the same; None where the gold means nothing."""
    want = read(gold)
    if not same(want, want):
        return None
    try:
        found = read(answer)
    except (Exception, RecursionError):
        return False
    verdict = same(want, found)
    return verdict if verdict is None else bool(verdict)


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
