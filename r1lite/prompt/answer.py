"""Taking an answer apart: the thinking, the final answer, and whether the format is kept."""

import re

from ..records import Answer

_STRICT = re.compile(r"\s*<think>(.*?)</think>\s*<answer>(.*?)</answer>\s*", re.DOTALL)
_R1 = re.compile(r"\s*<think>(.*?)</think>(.*)", re.DOTALL)
TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_ANY_TAG = re.compile("|".join(TAGS))


def split_answer(text: str) -> Answer:
    """Split a completion into its think block and its answer block: R1-Zero's format.

    Strict: one block of each, in this order, nothing outside them, nothing empty. Line breaks
    inside the tags are fine (a format check without DOTALL pays nothing for them, for ever).

    >>> split_answer("<think> 6 * 4 </think> <answer> 6 * 4 </answer>").final
    '6 * 4'
    >>> split_answer("<think> 6 * 4 </think> <answer> 6 * 4 </answer> done").is_well_formed
    False
    """
    if any(text.count(tag) != 1 for tag in TAGS):  # first, as it keeps hostile texts quick
        return Answer(None, None)
    match = _STRICT.fullmatch(text)
    if not match:
        return Answer(None, None)
    return _both(match)


def split_r1(text: str) -> Answer:
    """Split a completion into its think block and the final answer behind it: R1's format.

    Strict: the think block comes first and is not empty, plain text follows, and there is no other
    tag. R1 has no <answer> tags (arXiv 2501.12948, 2.3.1).

    >>> split_r1("<think> 6 * 4 </think> The answer is 24 .").final
    'The answer is 24 .'
    """
    if [text.count(tag) for tag in TAGS] != [1, 1, 0, 0]:
        return Answer(None, None)
    match = _R1.fullmatch(text)
    return _both(match) if match else Answer(None, None)


def _both(match: re.Match) -> Answer:
    think, final = match[1].strip(), match[2].strip()
    is_whole = _is_visible(think) and _is_visible(final)
    return Answer(think, final) if is_whole else Answer(None, None)


def _is_visible(text: str) -> bool:
    """Whether there is a character to be seen; a zero-width one is not empty to Python."""
    return any(character.isprintable() and not character.isspace() for character in text)


def last_answer(text: str) -> str:
    """What follows the last opening mark of an answer, tags ignored: the lenient reading.

    Looks for <answer>, then for the word "answer", then for </think>; else the whole text.
    """
    for mark in ("<answer>", " answer ", " 答案 ", "</think>"):
        if mark in text:
            text = text.rsplit(mark, 1)[1]
            break
    return _ANY_TAG.sub(" ", text.split("</answer>")[0]).strip()


def after_think(text: str) -> str:
    """What follows the last closing think tag, else the whole text, without tags: lenient for R1.

    >>> after_think("<think> 6 * 4 <answer> 24")
    '6 * 4   24'
    """
    return _ANY_TAG.sub(" ", text.rsplit("</think>", 1)[-1]).strip()
