"""Answers to the exercises of notebook 06: test_checks.py takes them all to the checks."""

import re
from math import comb

from r1lite import pass_at_k as library_pass_at_k
from r1lite.evaluation.reflection import reflection_markers
from r1lite.evaluation.reflection import second_attempts as library_second_attempts
from r1lite.rewards.language import language_consistency


def _words(text):
    return re.findall(r"[a-z]+", text.lower())


def _count(text, words):
    return sum(word in words for word in _words(text))


def _attempts(text):
    return text.split().count("try") + text.split().count("试")


def _given(right, reflects):
    pairs = list(zip(right, reflects))
    return tuple(
        sum(r for r, w in pairs if w == says) / sum(w == says for _, w in pairs)
        for says in (True, False)
    )


def _share(text, language):
    words = re.sub(r"<[^>]*>| vs ", " ", text).split()
    english = sum(w.isascii() and w.isalpha() and len(w) > 1 for w in words)
    chinese = sum(w.isalpha() and not w.isascii() for w in words)
    return {"en": english, "zh": chinese}[language] / (english + chinese)


def _counts(text, language, *, tag=r"</?\w+>|\bvs\b", en=r"[A-Za-z]{2,}", zh=r"[\u4e00-\u9fff]+"):
    text = re.sub(tag, " ", text)
    found = {"en": len(re.findall(en, text)), "zh": len(re.findall(zh, text))}
    return found[language], sum(found.values())


RIGHT = {
    "second_attempts": [
        library_second_attempts,
        lambda text: max(_attempts(text) - 1, 0),
        lambda text: len(re.findall(r" (?:try|试) ", text)[1:]),
    ],
    "count_words": [_count, lambda text, words: sum(map(_words(text).count, words))],
    "given_reflection": [_given, lambda r, w: list(_given([int(x) for x in r], w))],
    "pass_at_k": [
        library_pass_at_k,
        lambda n, c, k: 1 - comb(n - c, k) / comb(n, k),
    ],
    "language_share": [language_consistency, _share],
}
WRONG = {
    "second_attempts": {
        "all attempts": _attempts,
        "below zero": lambda text: _attempts(text) - 1,
        "words of reflection": reflection_markers,
        "words of reflection in English": lambda t: len(re.findall(r" (?:wait|check) ", t)),
        "English only": lambda text: max(text.split().count("try") - 1, 0),
        "whether": lambda text: _attempts(text) > 1,
        "verdicts": lambda text: text.split().count("no"),
        "crashes": lambda text: text.tries,
        "no return": lambda text: None,
        "no function": 2,
    },
    "count_words": {
        "parts of words": lambda text, words: sum(map(text.lower().count, words)),
        "parts, capitals missed": lambda text, words: sum(map(text.count, words)),
        "capitals missed": lambda text, words: sum(
            w in words for w in re.findall(r"[A-Za-z]+", text)
        ),
        "commas missed": lambda text, words: sum(w in words for w in text.lower().split()),
        "both missed": lambda text, words: sum(w in words for w in text.split()),
        "once each": lambda text, words: len(set(words) & set(_words(text))),
        "once each, parts": lambda text, words: sum(w in text.lower() for w in words),
        "all words": lambda text, words: len(_words(text)),
    },
    "given_reflection": {
        "inverse": lambda r, w: (_given(w, r)[0], _given(w, r)[1]),
        "joint": lambda r, w: (
            sum(a and b for a, b in zip(r, w)) / len(r),
            sum(a and not b for a, b in zip(r, w)) / len(r),
        ),
        "swapped": lambda r, w: _given(r, w)[::-1],
        "counts": lambda r, w: (sum(a and b for a, b in zip(r, w)), sum(r) - 2),
        "all in the second": lambda r, w: (_given(r, w)[0], sum(r) / len(r)),
        "wrong ones": lambda r, w: (_given(r, w)[0], 1 - _given(r, w)[1]),
        "one number": lambda r, w: _given(r, w)[0],
    },
    "pass_at_k": {
        "with replacement": lambda n, c, k: 1 - (1 - c / n) ** k,
        "chance of none": lambda n, c, k: comb(n - c, k) / comb(n, k),
        "right and wrong swapped": lambda n, c, k: 1 - comb(c, k) / comb(n, k),
        "pass@1": lambda n, c, k: c / n,
        "k times": lambda n, c, k: k * c / n,
        "k times, cut off": lambda n, c, k: min(1, k * c / n),
        "any of n": lambda n, c, k: float(c > 0),
        "only the last large case": lambda n, c, k: (
            0.0 if n == 64 else 1 - comb(n - c, k) / comb(n, k)
        ),
    },
    "language_share": {
        "tags counted": lambda t, x: _ratio(_counts(t, x, tag=r"[<>/]|\bvs\b")),
        "characters": lambda t, x: _ratio(_counts(t, x, zh=r"[\u4e00-\u9fff]")),
        "numbers and signs": lambda t, x: (
            _counts(t, x)[0] / len(re.sub(r"</?\w+>", " ", t).split())
        ),
        "everything": lambda t, x: _counts(t, x)[0] / len(t.split()),
        "the other": lambda t, x: 1 - _share(t, x),
        "English always": lambda t, x: _share(t, "en"),
        "single letters": lambda t, x: _ratio(_counts(t, x, en=r"[A-Za-z]+")),
        "vs counted": lambda t, x: _ratio(_counts(t, x, tag=r"</?\w+>")),
        "counts": lambda t, x: _counts(t, x)[0],
    },
}


def _ratio(pair):
    return pair[0] / pair[1]


LESSONS = {
    ("second_attempts", "all attempts"): "those are all attempts",
    ("second_attempts", "below zero"): "0, not -1",
    ("second_attempts", "words of reflection"): "those are the words",
    ("second_attempts", "words of reflection in English"): "in English alone",
    ("second_attempts", "English only"): "Chinese",
    ("second_attempts", "whether"): "Asked is how many",
    ("count_words", "parts of words"): "compare whole words, not parts",
    ("count_words", "parts, capitals missed"): "parts of words count, and",
    ("count_words", "capitals missed"): "a capital hides",
    ("count_words", "commas missed"): "a comma or a full stop",
    ("count_words", "both missed"): "commas and capitals",
    ("count_words", "once each"): "counted once. Asked",
    ("count_words", "once each, parts"): "counted once, and parts",
    ("given_reflection", "inverse"): "the other way round",
    ("given_reflection", "joint"): "divided by all answers",
    ("given_reflection", "swapped"): "swapped",
    ("given_reflection", "counts"): "those are counts",
    ("given_reflection", "all in the second"): "share of all answers",
    ("given_reflection", "wrong ones"): "share of wrong answers",
    ("pass_at_k", "with replacement"): "draws with replacement",
    ("pass_at_k", "chance of none"): "chance that none is right",
    ("pass_at_k", "right and wrong swapped"): "right and wrong are swapped",
    ("pass_at_k", "pass@1"): "whatever k is",
    ("pass_at_k", "k times"): "can exceed 1",
    ("pass_at_k", "k times, cut off"): "cut off at 1",
    ("pass_at_k", "any of n"): "any of the n answers",
    ("language_share", "tags counted"): "tags are counted",
    ("language_share", "characters"): "each Chinese character",
    ("language_share", "numbers and signs"): "numbers and signs are counted",
    ("language_share", "everything"): "everything between spaces",
    ("language_share", "the other"): "share of the other language",
    ("language_share", "English always"): "whatever was asked for",
    ("language_share", "single letters"): "single letter x",
    ("language_share", "vs counted"): "vs is counted",
    ("language_share", "counts"): "those are counts",
}
