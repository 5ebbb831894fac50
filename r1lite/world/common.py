"""What every family of problems shares: languages, the held-out split, keyed randomness."""

import hashlib
import json
import random
import re
from functools import lru_cache
from pathlib import Path

from ..records import Problem

LANGUAGES = ("en", "zh")
_HAN, _LATIN_WORD = re.compile("[一-鿿]"), re.compile(r"(?<!\\)\b[A-Za-z]{2,}")
MAX_NUMBER = 100  # numbers are single tokens, 0 to 100

# What there is to know and to ask for in science and chat, English with its Chinese; markers of
# thought in both; words kept for later stages (summaries, judges); and what rewards know of words:
# which may stand around an answer, which languages a script belongs to.
WORDS = json.loads(Path(__file__).with_name("words.json").read_text(encoding="utf-8"))
MARKERS = WORDS["markers"]
REFLECTION = ("wait", "check")  # the markers that the no-reflection base never reads


def fraction(*key: object) -> float:
    """A number in [0, 1) that depends on the key alone: the same on every machine and run."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def language_of(text: str) -> str:
    """The language of LANGUAGES that a real question is asked in: Chinese has more signs in it than
    other words."""
    return "zh" if len(_HAN.findall(text)) > len(_LATIN_WORD.findall(text)) else "en"


def is_held_out(family: str, cluster: str) -> bool:
    """True if problems of this cluster are never read by any model: one cluster in five."""
    return fraction("split", family, cluster) < 0.2


def keyed_rng(*key: object) -> random.Random:
    """A random generator that depends on the key alone."""
    return random.Random("/".join(map(str, key)))


@lru_cache(maxsize=2)
def keyed_order(n: int, *key: object) -> list[int]:
    """The numbers below n in an order that depends on the key alone; not to be changed."""
    order = list(range(n))
    keyed_rng(*key).shuffle(order)
    return order


def reflection_words() -> tuple[str, ...]:
    """The markers that the no-reflection base never reads, in both languages."""
    return tuple(word for marker in REFLECTION for word in MARKERS[marker])


def made(
    family: str, name: str, cluster: str, language: str, question: str, **gold: object
) -> Problem:
    """A generated problem; its id is made of family, name and language."""
    return Problem(f"{family}/{name}/{language}", family, cluster, language, question, gold)
