"""What every family of problems shares: languages, the held-out split, keyed randomness."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

LANGUAGES = ("en", "zh")
MAX_NUMBER = 100  # numbers are single tokens, 0 to 100

# (English, Chinese) markers of thought. The reflection markers are the ones that the
# no-reflection base never reads.
MARKERS = {
    "try": ("try", "试"),
    "left": ("left", "余"),
    "wait": ("wait", "等等"),
    "check": ("check", "检查"),
    "yes": ("yes", "对"),
    "no": ("no", "不"),
    "so": ("so", "所以"),
    "maybe": ("maybe", "可能"),
    "give up": ("give up", "放弃"),
    "guess": ("guess", "猜"),
    "answer": ("answer", "答案"),
    "same": ("same", "相同"),
    "differ": ("differ", "不同"),
    "true": ("true", "真"),
    "false": ("false", "假"),
    "done": ("done", "完"),
}
REFLECTION = ("wait", "check")


@dataclass(frozen=True)
class Draft:
    """The thinking and the answer of one document, before the tags go around them."""

    think: str
    answer: str


class Voice:
    """Picks the words of one document: its language, and whether it reflects at all.

    mix  chance that a marker comes from the other language (language mixing)
    """

    def __init__(
        self, rng: random.Random, language: str, *, mix: float = 0.0, reflect: bool = True
    ):
        self.rng, self.language, self.mix, self.reflect = rng, language, mix, reflect

    def say(self, marker: str) -> str:
        column = LANGUAGES.index(self.language)
        if self.mix and self.rng.random() < self.mix:
            column = 1 - column
        return MARKERS[marker][column]

    def reflects(self, chance: float, n_markers: int = 1) -> bool:
        """Whether to reflect here, in words that hold n_markers markers.

        All draws are made either way, so that both bases read the same sums.
        """
        would = self.rng.random() < chance
        if would and not self.reflect and self.mix:
            for _ in range(n_markers):
                self.rng.random()  # the language that say() would have drawn
        return would and self.reflect


def fraction(*key: object) -> float:
    """A number in [0, 1) that depends on the key alone: the same on every machine and run."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def is_held_out(family: str, cluster: str) -> bool:
    """True if problems of this cluster are never read by any model: one cluster in five."""
    return fraction("split", family, cluster) < 0.2


def keyed_rng(*key: object) -> random.Random:
    """A random generator that depends on the key alone."""
    return random.Random("/".join(map(str, key)))
