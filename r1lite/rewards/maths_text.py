"""What an answer in mathematics says: one formula, its unit, or words, read off its text."""

import re
from fractions import Fraction
from itertools import pairwise

from ..world import last_boxed
from ..world.common import WORDS

LONGEST = 1000  # characters of an answer: a number that needs more is no answer
N_TAIL = 100  # characters at the end of it that are looked through for a unit
UNITS = {name: row.split()[0] for row in WORDS["units"] for name in row.split()}
_SIGNS = {0xFF01 + i: 0x21 + i for i in range(94)}  # full width; then signs for what TeX has names
_SIGNS |= {ord(sign): plain for sign, plain in WORDS["signs in an answer"].items()}
_TEXT = r"\\(?:text|mathrm|mbox)(?:bf|rm|it)?\s*\{([^{}]*)\}"
_BOX = re.compile(r"\\(?:boxed|fbox)")
_BOLD = re.compile(r"(?<![\w)*])\*\*(?=[^\s*])([^*]*[^\s*])\*\*(?![\w(*])")
_BETWEEN = re.compile(r"\$\$?([^$]+)\$\$?|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_NO_TERM = r"(?![-+*/^=<>(]|\s+[-+*/^=<>]\s)"  # a word that goes on so is a name in a formula
_PROSE = re.compile(rf"(?<![\\{{])(?:\b[^\W\d_]{{2,}}\b|[\u4e00-\u9fff]+){_NO_TERM}")
# words before "=" say what the number is of; one letter stays, as a name that is compared
_LABEL = re.compile(
    r"\\(?:text|mathrm|angle|overline)\b|\b(?:[A-Z]{2,}|[A-Za-z][a-z]{2,})\b|[{}\s]"
)
_MONEY = re.compile(r"((?:[^=$]*=)?\s*-?\s*)(?:US)?\\?([$€£¥₹])\s*(?=[\d.-])")
_MANY = re.compile(r"\bhow many((?: \w+){1,3})", re.IGNORECASE)
_ASKS_PERCENT = re.compile(r"(?<![\d ])\s*(?:percent|\\?%)", re.IGNORECASE)  # not "a 20% discount"
_SAID = re.compile(r"[^\W\d_]+|[23/%$€£¥₹¢]")
_CHINESE = sorted((name for name in UNITS if name > "\u4e00"), key=len, reverse=True)
_TOKEN = (
    re.compile(  # at the end of an answer: \text{}, a word or a sign of a unit, a gap, the rest
        rf"{_TEXT}|(\s*\^\{{?[23]\}}?|\^\{{?\\circ\}}?|\\?[%$€£¥₹¢]|{'|'.join(_CHINESE)}"
        r"|(?<![A-Za-z\\])[A-Za-z]+(?:/[A-Za-z]+)*)|([\s.,:;。]|\\[ ,;:!])|.",
        re.DOTALL,
    )
)


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
    formula, unit = _split_unit(formula, {*map(_one_form, names.split())})
    if money := _MONEY.match(formula):
        formula = money[1] + formula[money.end() :]
        unit = UNITS[money[2]] + unit * unit.startswith("/")
    if not re.search(r"\w", re.sub(_TEXT, r"\1", formula)) or (
        not is_boxed and _PROSE.search(formula)
    ):
        return "", ""
    return formula.strip(), unit


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


def unit_asked(question: str) -> str:
    """The unit in which a question wants its number: "%", or what stands behind "how many"."""
    if _ASKS_PERCENT.search(question):
        return "%"
    said = []
    for word in " ".join(_MANY.findall(question)[-1:]).split():
        if word not in UNITS:
            break
        said.append(UNITS[word])
    return _unit(said)


def is_unit_of(said: str, wanted: str) -> bool:
    """Whether a unit is the one that is wanted; "$" may stand for "$/h", and the reverse."""
    return f"{said}/".startswith(f"{wanted}/") or f"{wanted}/".startswith(f"{said}/")


def vote(final: str) -> str:
    """What counts as the same answer in a vote: the value of a number, else the formula's text."""
    formula = one_answer(final)
    if formula is None:
        return words_of(final) or final.strip()
    number = re.sub(r"\\[dt]?frac\{(\d+)\}\{(\d+)\}", r"\1/\2", formula).replace(",", "")
    try:
        return str(Fraction(number))
    except (ValueError, ZeroDivisionError):
        return "".join(formula.split())


def _said(text: str) -> tuple[str, bool]:
    """What an answer says, and whether it stands in a box; "" for two boxes, and if too long."""
    starts = [box.start() for box in _BOX.finditer(text)]
    boxes = {last_boxed(text[a:b]) for a, b in pairwise([*starts, len(text)])}
    said = boxes.pop() if len(boxes) == 1 else "" if starts else text
    said = said if len(said) <= LONGEST else ""
    return _BOLD.sub(r"\1", said.translate(_SIGNS)).strip(), bool(starts)


def _split_unit(text: str, names: set[str]) -> tuple[str, str]:
    """A formula without the unit and the stops behind it, and the unit."""
    cut, said, pending = len(text), [], []
    for token in reversed([*_TOKEN.finditer(text, max(len(text) - N_TAIL, 0))]):
        words = [] if token[3] else _SAID.findall(token[1] or token[2] or "")
        known = [
            UNITS.get(word) or UNITS.get(word.lower()) or _known(word, names) for word in words
        ]
        is_letter = re.fullmatch("[A-Za-z]", token[2] or "") and not names & {*words}
        if not (token[3] or words) or not all(known) or is_letter:
            break
        pending = known + pending
        if (
            not token[0].lstrip().startswith("^") or "circ" in words
        ):  # a power is of what it follows
            cut, said = token.start(), pending
    unit = _unit(said)
    if said and not (unit.strip("/23") or set(said) == {","}) or not re.search(r"\w", text[:cut]):
        return text.strip(" .,:;。\n"), ""
    return text[:cut], unit


def _known(word: str, names: set[str]) -> str:
    return _one_form(word) if _one_form(word) in names else ""


def _one_form(word: str) -> str:
    return word.lower().rstrip("s") or word


def _unit(said: list[str]) -> str:
    """Units as one text: "2cm" of square and cm, "km/h" of km, per and h."""
    parts = " ".join(said).replace(",", "").replace("/", " / ").split("/")
    return "/".join("".join(sorted(part.split())) for part in parts)
