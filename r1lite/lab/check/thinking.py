"""Exercises on reading what a run wrote (notebook 06)."""

from __future__ import annotations

from collections.abc import Callable

from ..four import FOUR
from .marking import call, compare, is_untried, passed

_CHINESE = "<think> 试 2 + 4 = 6 余 8 : 6 + 8 = 14 vs 24 不 . 等等 , 试 8 * 2 = 16 余 4 : 放弃"
_RETELLING = "Wait, wait. Is that wrong? Check it."
_WAITER = "The waiter will distribute the checkers, but wait."
_MIXED = "<think> try 3 + 4 = 7 left 2 , wait . 等等 . </think>"


def second_attempts(mine: Callable | None) -> None:
    """f(text) -> how many attempts ("try" or "试") come after the first one; 0 if there is none."""
    name = "second_attempts"
    if is_untried(name, mine):
        return
    texts = [*FOUR.values(), _CHINESE]
    slips = {
        "those are all attempts. The first one is no reflection: only those after it count.": [
            *(1, 2, 0, 3, 2)
        ],
        "an answer without any attempt (C) has none after the first either: 0, not -1.": [
            *(0, 1, -1, 2, 1)
        ],
        "those are the words of reflection (wait, check). Count what the answer does: the words "
        "that open an attempt.": [0, 2, 0, 1, 1],
        "the words of reflection in English alone. Count what the answer does: the words that "
        "open an attempt, in both languages.": [0, 2, 0, 1, 0],
        'the last text is Chinese: there an attempt opens with "试".': [0, 1, 0, 2, 0],
        "that says whether there was another attempt. Asked is how many.": [0, 1, 0, 1, 1],
    }
    got = [call(name, mine, text) for text in texts]
    compare(name, got, [0, 1, 0, 2, 1], slips, where=" for A, B, C, D and a Chinese answer")
    passed(name)


def count_words(mine: Callable | None) -> None:
    """f(text, words) -> how often any of the (lower-case) words stands in text, as a whole word."""
    name = "count_words"
    if is_untried(name, mine):
        return
    words = ("wait", "wrong", "check", "but")
    slips = {
        '"waiter", "checkers" and "distribute" hold such a word and are none: compare whole '
        "words, not parts of them.": [4, 5],
        'parts of words count, and "Wait" with a capital does not. Bring everything to lower case '
        "and compare whole words.": [2, 5],
        'a capital hides a word: "Wait" and "Check" open a sentence. Use text.lower().': [2, 2],
        'a comma or a full stop hides a word: "Wait," and "wrong?" are such words too. '
        "Splitting at spaces is not enough; re.findall(r'[a-z]+', ...) is.": [1, 1],
        "commas and capitals both hide words.": [0, 1],
        "each word is counted once. Asked is how often they occur.": [3, 2],
        "each word is counted once, and parts of words count.": [3, 3],
    }
    got = [call(name, mine, text, words) for text in (_RETELLING, _WAITER)]
    where = f" for {_RETELLING!r} and {_WAITER!r}"
    compare(name, got, [4, 2], slips, where=where)
    passed(name)


def given_reflection(mine: Callable | None) -> None:
    """f(right, reflects) -> (share right where it reflects, share right where it does not)."""
    name = "given_reflection"
    if is_untried(name, mine):
        return
    right = [True, True, False, False, False, True, False, False, False, False]
    reflects = [True] * 5 + [False] * 5
    slips = {
        "that is the other way round: how many of the right answers reflect. Asked is how many of "
        "the reflecting answers are right; divide by their number.": [2 / 3, 3 / 7],
        "you divided by all answers. Divide by those of the kind you speak of: the ones that "
        "reflect, then the ones that do not.": [0.2, 0.1],
        "the two are swapped: first the answers that reflect.": [0.2, 0.4],
        "those are counts. A share lies between 0 and 1.": [2.0, 1.0],
        "the second is the share of all answers. Leave out those that reflect.": [0.4, 0.3],
        "the second is the share of wrong answers that do not reflect. Asked is how many of those "
        "that do not reflect are right.": [0.4, 0.8],
    }
    got = call(name, mine, right, reflects)
    where = f" for right {[int(r) for r in right]} and reflects {[int(r) for r in reflects]}"
    compare(name, got, [0.4, 0.2], slips, where=where)
    again = call(name, mine, [True, False, True, True], [False, False, True, True])
    compare(name, again, [1.0, 0.5], {}, where=" for right 1 0 1 1 and reflects 0 0 1 1")
    passed(name)


def pass_at_k(mine: Callable | None) -> None:
    """f(n, n_right, k) -> chance of a right one among k of n answers, drawn without replacement."""
    name = "pass_at_k"
    if is_untried(name, mine):
        return
    cases = [(4, 1, 2), (10, 3, 5), (5, 3, 3), (8, 0, 4)]
    slips = {
        "that is 1 - (1 - n_right / n)^k. It draws with replacement, so it may draw the same "
        "answer twice, and comes out too low on average. Draw without replacement.": [
            *(0.4375, 0.83193, 0.936, 0.0)
        ],
        "that is the chance that none is right. Subtract it from 1.": [0.5, 0.08333, 0.0, 1.0],
        "right and wrong are swapped: the k answers miss if all of them come from the n - n_right "
        "wrong ones.": [1.0, 1.0, 0.9, 1.0],
        "that is pass@1, whatever k is.": [0.25, 0.3, 0.6, 0.0],
        "k times pass@1 counts draws with two right answers twice, and can exceed 1.": [
            *(0.5, 1.5, 1.8, 0.0)
        ],
        "that is k times pass@1, cut off at 1: it counts draws with two right answers twice.": [
            *(0.5, 1.0, 1.0, 0.0)
        ],
        "that asks whether any of the n answers is right. Only k of them are drawn.": [
            *(1.0, 1.0, 1.0, 0.0)
        ],
    }
    got = [call(name, mine, *case) for case in cases]
    compare(name, got, [0.5, 0.91667, 1.0, 0.0], slips, where=f" for (n, n_right, k) = {cases}")
    large = call(name, mine, 64, 1, 32)
    compare(name, large, 0.5, {}, where=" for (64, 1, 32): one right answer, half of them drawn")
    passed(name)


def language_share(mine: Callable | None) -> None:
    """f(text, language) -> share of the words of text that are in language ("en" or "zh")."""
    name = "language_share"
    if is_untried(name, mine):
        return
    cases = [(_MIXED, "en"), (_MIXED, "zh"), ("so x = 3 vs 5 , 3 vs 4 , 对 .", "en")]
    slips = {
        "the tags are counted as English words. They are not written in any language: take them "
        "out first.": [5 / 6, 1 / 6, 0.5],
        "each Chinese character is counted. 等等 is one word: a run of characters between "
        "spaces.": [0.6, 0.4, 0.5],
        "numbers and signs are counted as words. They belong to no language, so they must not "
        "stand in the denominator either.": [3 / 13, 1 / 13, 1 / 13],
        "everything between spaces is counted, the tags too. Numbers, signs and tags are words "
        "of no language.": [3 / 15, 1 / 15, 1 / 13],
        "that is the share of the other language.": [0.25, 0.75, 0.5],
        "that is English whatever was asked for: read the second argument.": [0.75, 0.75, 0.5],
        "the single letter x is counted. A letter alone is a name, a word of no language.": [
            *(0.75, 0.25, 2 / 3)
        ],
        "vs is counted as English. It is a sign, as = is: answers in Chinese hold it too, and the "
        "longest searches the most.": [0.75, 0.25, 0.75],
        "those are counts. Divide by the words of both languages.": [3.0, 1.0, 1.0],
    }
    got = [call(name, mine, *case) for case in cases]
    compare(name, got, [0.75, 0.25, 0.5], slips, where=f" for {cases}")
    passed(name)
