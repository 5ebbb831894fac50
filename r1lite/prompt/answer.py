"""Taking an answer apart: the thinking, the final answer, and whether the format is kept."""

import re
from dataclasses import dataclass

_STRICT = re.compile(r"\s*<think>(.*?)</think>\s*<answer>(.*?)</answer>\s*", re.DOTALL)
_TAGS = ("<think>", "</think>", "<answer>", "</answer>")


@dataclass(frozen=True)
class Answer:
    """think and final are None where the format is not kept; nothing is guessed then."""

    think: str | None
    final: str | None

    @property
    def is_well_formed(self) -> bool:
        return self.final is not None


def split_answer(text: str) -> Answer:
    """Split an answer into its think block and its answer block.

    Strict: one block of each, in this order, nothing outside them, nothing empty. Line breaks
    inside the tags are fine (a format check without DOTALL pays nothing for them, for ever).

    >>> split_answer("<think> 6 * 4 </think> <answer> 6 * 4 </answer>").final
    '6 * 4'
    >>> split_answer("<think> 6 * 4 </think> <answer> 6 * 4 </answer> done").is_well_formed
    False
    """
    if any(text.count(tag) != 1 for tag in _TAGS):  # first, as it keeps hostile texts quick
        return Answer(None, None)
    match = _STRICT.fullmatch(text)
    if not match:
        return Answer(None, None)
    think, final = match[1].strip(), match[2].strip()
    return Answer(think, final) if _says(think) and _says(final) else Answer(None, None)


def _says(text: str) -> bool:
    """Whether there is a sign to be seen; a zero-width one is not empty to Python."""
    return any(sign.isprintable() and not sign.isspace() for sign in text)


def last_answer(text: str) -> str:
    """What follows the last opening mark of an answer, tags ignored: the lenient reading.

    Looks for <answer>, then for the word "answer", then for </think>; else the whole text.
    """
    for mark in ("<answer>", " answer ", " 答案 ", "</think>"):
        if mark in text:
            text = text.rsplit(mark, 1)[1]
            break
    for tag in _TAGS:
        text = text.split(tag)[0] if tag == "</answer>" else text.replace(tag, " ")
    return text.strip()
