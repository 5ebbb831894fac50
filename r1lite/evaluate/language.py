"""How much of an answer's thinking is in the language of the question."""

from __future__ import annotations

import re

_WORD = {"en": re.compile(r"[A-Za-z]{2,}"), "zh": re.compile(r"[\u4e00-\u9fff]+")}
_TAG = re.compile(r"</?\w+>")
# Written alike in answers of both languages, as = is: counted as English, they would make every
# Chinese search look mixed, and the longer the search the more so.
_NOTATION = re.compile(r"\b(?:vs|return)\b")


def language_consistency(text: str, language: str) -> float | None:
    """Share of words in a language ("en" or "zh") among all words, as R1 defines it; 0 to 1.

    Numbers, signs (vs and the return of programs among them) and single letters (names,
    variables) are words of no language. A run of Chinese characters between spaces counts as
    one word, as the tiny world writes them apart. None if there is no word at all.

    >>> language_consistency("try 3 + 4 = 7 vs 8 , 等 , wait", "en")
    0.6666666666666666
    """
    text = _NOTATION.sub(" ", _TAG.sub(" ", text))
    counts = {name: len(word.findall(text)) for name, word in _WORD.items()}
    total = sum(counts.values())
    return counts[language] / total if total else None
