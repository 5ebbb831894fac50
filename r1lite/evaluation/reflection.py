"""What thinking looks like from outside: words of reflection, second attempts, readability.

Two detectors of reflection, because words alone mislead: a model may say "wait" and go on as
before, and one that has never read the word may still go back and try something else.
"""

import re

from ..records import Answer
from ..rewards.language import language_consistency
from ..world import reflection_words

# Chinese words have no space around them
_ATTEMPT = re.compile(r"(?:\btry\b|试)(?=.)", re.IGNORECASE | re.DOTALL)
_MARKER = re.compile(
    "|".join(rf"\b{word}\b" if word.isascii() else word for word in reflection_words()),
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?<![.!?])[.!?]+(?=\s|$)|[。！？]+|\n")


def reflection_markers(text: str) -> int:
    """How many words of an answer are reflection markers ("wait", "check", in both languages).

    >>> reflection_markers("try 1 + 2 . wait , try 2 + 2 . check 4")
    2
    >>> reflection_markers("Wait, is that so? Check: the waiter waits. 等等，再检查一下。")
    4
    """
    return len(_MARKER.findall(text))


def second_attempts(text: str) -> int:
    """How often an answer opens another attempt after its first; reads no marker of reflection.

    >>> second_attempts("try 1 + 2 = 3 no . wait , try 2 + 2 = 4 no . try 3")
    2
    """
    return max(len(_ATTEMPT.findall(text)) - 1, 0)


def is_readable(answer: Answer, language: str) -> bool:
    """Whether a reader could follow a completion: format kept, one language, no sentence twice.

    The paper calls R1-Zero's outputs hard to read (v1 p9: language mixing, no formatting) and
    gives no measure; this one is ours.
    """
    if answer.think is None:
        return False
    sentences = [s.strip() for s in _SENTENCE_END.split(answer.think) if s.strip()]
    one_language = language_consistency(answer.think, language) in (1.0, None)
    return one_language and len(sentences) == len(set(sentences))
