"""What an answer in mathematics says: one formula, its unit, or words, read off its text."""

import re
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise

from ..world import last_boxed
from ..world.common import WORDS

LONGEST = 1000  # characters of an answer: a number that needs more is no answer
N_TAIL = 100  # characters at the end of it that are looked through for a unit
_ROWS, _BEFORE = WORDS["units"], WORDS["before a unit"]  # of names, the first one for all of them
UNITS = {name: row.split()[0] for row in _ROWS for name in row.split() if name != ","}
BEFORE_UNITS = {name: row.split()[0] for row in _BEFORE for name in row.split()[1:]}
_SIGNS = {0xFF01 + i: 0x21 + i for i in range(94)}  # full width; then signs for what TeX has names
_SIGNS |= {ord(sign): plain for sign, plain in WORDS["signs in an answer"].items()}
_TEXT = r"\\(?:text|mathrm|mbox)(?:bf|rm|it)?\s*\{([^{}]*)\}"
_UNITS_ALONE = re.compile(f"(?:{'|'.join(map(re.escape, UNITS))})+")  # 个人: read in two ways
_GAP = r"(?:[\s.,:;。]|\\[ ,;:!])"
_TEXT_OF = r"\\(?:text|mathrm|mbox)(?:bf|rm|it)?\s*\{((?:%s|%s|\^[23])*)\}"
_BOX = re.compile(r"\\(?:boxed|fbox)")
_BOLD = re.compile(r"(?<![\w)*])\*\*(?=[^\s*])([^*]*[^\s*])\*\*(?![\w(*])")
_BETWEEN = re.compile(r"\$\$?([^$]+)\$\$?|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_NO_TERM = r"(?![-+*/^=<>(]|\s+[-+*/^=<>]\s)"  # a word that goes on so is a name in a formula
_PROSE = re.compile(rf"(?<![\\{{])(?:\b[^\W\d_]{{2,}}\b|[\u4e00-\u9fff]+){_NO_TERM}")
# words before "=" say what the number is of; one letter stays, as a name that is compared
_LABEL = re.compile(r"\\(?:text|mathrm|angle|overline)\b|\b([A-Z]{2,}|[A-Za-z][a-z]{2,})\b|[{}\s]")
_MONEY = re.compile(r"((?:[^=$]*=)?\s*-?\s*)(?:US)?\\?([$€£¥₹])\s*(?=[\d.-])")
_MANY = re.compile(r"\bhow many((?: \w+){1,3})", re.IGNORECASE)
ASKS_PERCENT = re.compile(r"(?<![\d \\])\s*(?:percent|\\?%)", re.IGNORECASE)  # not "a 20% discount"


def _either(where: str) -> str:
    """A pattern for one of the words there; Chinese ones, the second list, need no space around.

    These are all that may stand before an answer, and the units are all that may stand behind it.
    No list of what may not would ever be whole: "anything but 12", "12 dozens" and "twice 12" name
    other numbers.
    """
    words, characters = (listed.split() for listed in WORDS[where])
    return rf"(?:\b(?:{'|'.join(words)})\b|{'|'.join(characters)})"


_LEAD = re.compile(
    rf"[\s#]*(?:{_either('before an answer')}{_NO_TERM}(?:[\s,:。]|\.(?!\d))*)*", re.IGNORECASE
)


def one_answer(text: str, names: str = "") -> str | None:
    """The one mathematical thing that a final answer says, or None: who says two has guessed twice.

    What stands in \\boxed{}; else what is left without a few words before it ("so the answer is")
    and a unit behind it, dollars around it or not. Any other word there is None: it may make
    another number of it. What stands around a box is not read, and a box may be written twice.
    names  words that are units too, between spaces: those of the gold, and what is counted

    >>> one_answer("so it is \\\\boxed{\\\\frac{1}{2}} ."), one_answer("the answer is 12 cm")
    ('\\\\frac{1}{2}', '12')
    >>> one_answer("1 or 2") is None, one_answer("\\\\boxed{1} or \\\\boxed{2}") is None
    (True, True)
    >>> one_answer("12 dozens") is None, one_answer("12 dozens", names="dozens")
    (True, '12')
    """
    return with_unit(text, names)[0] or None


def with_unit(text: str, names: str = "") -> tuple[str, str]:
    """one_answer or "", and the unit that it names: "cm", "2ft" for square feet, "km/h", "%", "$".

    "" is for none. Both are the same for every spelling in the table of units.
    """
    formula, is_boxed = _said(text)
    if not is_boxed:
        formula = formula[_LEAD.match(formula).end() :]
    if inside := _BETWEEN.match(formula):
        formula = inside[inside.lastindex] + " " + formula[inside.end() :]
    label, equals, value = formula.partition("=")
    formula = formula if not equals or _LABEL.sub("", label) else value
    here = {*re.findall(r"[^\W\d_]+", formula[-N_TAIL:].lower())} & {*names.lower().split()}
    here = {name for name in here if name in UNITS or not _UNITS_ALONE.fullmatch(name)}
    tail, known = _units(frozenset(here - {name for name in UNITS if len(name) > 1}))
    found = tail.search(formula, max(len(formula) - N_TAIL, 0)).start()
    found = (
        found if re.search(r"\w", formula[:found]) else len(formula)
    )  # \text{C} is no unit alone
    said = [BEFORE_UNITS.get(w) or UNITS.get(w, w) for w in known.findall(formula[found:].lower())]
    parts = "".join(f" {word} " for word in said if word != ",").replace("/", " / ").split("/")
    unit, formula = "/".join("".join(sorted(part.split())) for part in parts), formula[:found]
    if money := _MONEY.match(formula):
        formula = money[1] + formula[money.end() :]
        unit = UNITS[money[2]] + unit * unit.startswith("/")
    is_prose = not is_boxed and _PROSE.search(formula)
    if is_prose or not re.search(r"\w", re.sub(_TEXT, r"\1", formula)):
        return "", ""
    return formula.strip(), unit


@lru_cache(500)
def _units(names: frozenset[str]) -> tuple[re.Pattern, re.Pattern]:
    """Patterns for all units at the end of a text, and for one of their words."""
    known = sorted(map(re.escape, {*UNITS, *names} - {*BEFORE_UNITS}), key=len, reverse=True)
    plain = [u for u in known if not re.fullmatch("[a-z]", u) or u in names]  # m may be any number
    word = r"(?<![A-Za-z])(?:{})(?![A-Za-z])".format
    # miles/hour; km/h stays one unit: to read it in two ways would take exponential time
    before = rf"(?:{word('|'.join({*BEFORE_UNITS} - {'/'}))}|/(?=[A-Za-z]{{2}})|/(?![A-Za-z]))"
    every = rf"(?:{word('|'.join(known))}|{before})"
    unit = rf"(?:{_TEXT_OF % (_GAP, every)}|\^\{{?\\circ\}}?|\\?{word('|'.join(plain))})"
    tail = rf"(?:{_GAP}|(?:{before}{_GAP}*)*{unit}(?:\^\{{?[23]\}}?)?)*$"
    return re.compile(tail, re.IGNORECASE), re.compile(every + "|[23]")


def words_of(text: str) -> str:
    """The words that an answer consists of, in lower case: "no solution"; "" if it has others."""
    said, is_boxed = _said(text)
    plain = re.sub(_TEXT, r" \1 ", said if is_boxed else said[_LEAD.match(said).end() :])
    words = " ".join(plain.lower().split()).strip(" .()$'\"")
    return words if re.fullmatch(r"[^\W\d_]+(?:[ '-]+[^\W\d_]+)*", words) else ""


def names_in(gold: str, question: str) -> str:
    """Words that count as a unit of answers: those of the gold, and 12 beads of beads asked for."""
    named = " ".join([gold, *_MANY.findall(question)])
    return " ".join(re.findall(r"(?<!\\)\b[^\W\d_]{2,}\b", named))


def vote(final: str) -> str:
    """What counts as the same answer in a vote: the value of a number, else the formula's text."""
    formula = one_answer(final) or words_of(final) or final
    number = re.sub(r"\\[dt]?frac\{(\d+)\}\{(\d+)\}", r"\1/\2", formula).replace(",", "")
    if re.fullmatch(r"-?(\d+(\.\d*)?|\.\d+|\d+/0*[1-9]\d*)", number):
        return str(Fraction(number))
    return "".join(formula.split())


def _said(text: str) -> tuple[str, bool]:
    """What an answer says, and whether it stands in a box; "" for two boxes, and if too long."""
    starts = [box.start() for box in _BOX.finditer(text)]
    boxes = {last_boxed(text[a:b]) for a, b in pairwise([*starts, len(text)])}
    said = boxes.pop() if len(boxes) == 1 else "" if starts else text
    said = said if len(said) <= LONGEST else ""
    return _BOLD.sub(r"\1", said.translate(_SIGNS)).strip(), bool(starts)
