"""What every writer of documents needs: a voice to pick words with, and what a draft is."""

import random
from dataclasses import dataclass

from ...world.common import LANGUAGES, MARKERS


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
