"""How much of an answer's thinking is in the language of the question (arXiv 2501.12948, eq. 7).

The paper divides words of the target language by words, and says neither what a word is nor how
its language is found. Here, where the scripts of two languages differ, the script decides; where
they do not, a detector reads whole sentences, as no detector can tell the language of one word.

What is a word: two or more letters in a row (single ones are variables and names), of whatever
script there is, as one that is not counted could be thought in for free. Scripts that put no space
between words are counted two letters a word, which is about their average; in the others more than
LONGEST letters are more than one word. Words of no language: tags, numbers, symbols, formulas
between dollars or LaTeX brackets, LaTeX commands, code between backticks, addresses; and of the
tiny world's symbols, vs and return. In formulas and code that goes for Latin letters, which they
are written in everywhere: what else is said there does count, and so does, beside another language,
a phrase of LEAST_WORDS words.
"""

import re
from collections.abc import Sequence
from functools import cache

import regex

from ..records import Answer, Problem, UserError
from ..world.common import LANGUAGES, WORDS
from .calls import plain_columns

# Languages by the script that they are told by; Japanese and Chinese share Han, which says only
# that a word may be either.
SCRIPTS: dict[str, str] = WORDS["languages of a script"]
_UNSPACED = ("Han", "Hiragana", "Katakana", "Thai")
LONGEST = 24  # letters
LEAST_WORDS = 4  # a shorter sentence tells no detector anything, and counts as the one before it


def _words(letters: str) -> regex.Pattern:
    """Some letters, and marks on them: a mark alone belongs to no script, or to all."""
    return regex.compile(rf"(?V1)[\p{{L}}{letters}][[\p{{L}}{letters}]\p{{Mn}}\p{{Mc}}]*")


_WORDS = {script: _words(rf"&&\p{{{script}}}") for script in SCRIPTS}
_WORDS["any other"] = _words("".join(rf"--\p{{{script}}}" for script in SCRIPTS))
# no piece holds another opening of its kind: each would be sought to the end of the text
_PIECE = re.compile(
    r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|\\\((?:(?!\\\().)*?\\\)|\\\[(?:(?!\\\[).)*?\\\]"
    # written alike in answers of both languages of the tiny world, as = is: counted as English,
    # they would make every Chinese search look mixed, and the longer the search the more so
    r"|\\[A-Za-z]+|</?\w+>|https?://\S+|\b(?:vs|return)\b",
    re.DOTALL,
)
_LATIN = regex.compile(r"\p{Latin}")
_PHRASE = regex.compile(rf"\b(?:\p{{Latin}}{{2,}}\s+){{{LEAST_WORDS - 1}}}\p{{Latin}}{{2}}")
_SENTENCE = re.compile(r"[.!?;:,\n]+")


def _n_words(text: str, script: str) -> int:
    runs = _WORDS[script].findall(text)
    if script in _UNSPACED:
        return sum(max(len(run) // 2, 1) for run in runs)
    return sum((len(run) > 1) + len(run) // LONGEST for run in runs)


def language_consistency(
    text: str, language: str, among: Sequence[str] = LANGUAGES
) -> float | None:
    """Share of words in a language among all words: 0 to 1, or None if there is no word at all.

    language  of the question, e.g. "en"; one that SCRIPTS does not know is a UserError
    among     languages that the text may be in. If one shares its script with `language`,
              sentences of LEAST_WORDS words or more are given to the likelier; else no word of
              that script is doubted.

    >>> language_consistency("try 3 + 4 = 7 vs 8 , 等 , wait", "en")
    0.6666666666666666
    >>> language_consistency("on élève les deux côtés . so we now find x", "fr", ("en", "fr"))
    0.5555555555555556
    """
    own = [script for script, spoken in SCRIPTS.items() if language in spoken.split()]
    if not own:
        raise UserError(
            f"language {language!r} is unknown: it must be one of "
            f"{', '.join(sorted(set(' '.join(SCRIPTS.values()).split())))}. Choose one of those, "
            "or add it to r1lite.rewards.language.SCRIPTS."
        )

    def bare(piece: re.Match) -> str:
        is_phrase = "Latin" not in own and _PHRASE.search(piece[0])
        return piece[0] if is_phrase else f" {_LATIN.sub(' ', piece[0])} "

    text = _PIECE.sub(bare, text)
    total = sum(_n_words(text, script) for script in _WORDS)
    alike = " ".join(SCRIPTS[script] for script in own).split()
    rivals = [other for other in among if other != language and other in alike]
    spoken, detected = 0, language
    for sentence in _SENTENCE.split(text):
        n_words = sum(_n_words(sentence, script) for script in own)
        if rivals and n_words >= LEAST_WORDS:
            detected = _detector((language, *rivals)).classify(sentence)[0]
        spoken += n_words * (detected == language)
    return spoken / total if total else None


@cache
def _detector(languages: tuple[str, ...]):
    from py3langid.langid import MODEL_DIR, MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_modelpath(MODEL_DIR / MODEL_FILE)
    identifier.set_languages(list(languages))
    return identifier


@plain_columns
def language_reward(
    prompts: Sequence[str],
    completions: Sequence[str],
    *,
    problem: Sequence[Problem],
    parsed: Sequence[Answer] = (),
    among: Sequence[str] = LANGUAGES,
    **columns,
) -> list[float | None]:
    """Share of the think block's words that are in the question's language: 0 to 1.

    The paper's language consistency reward (arXiv 2501.12948: v1, 2.3.2; v2, eq. 7), added as it is
    to the others, for all kinds of questions, from R1's first RL stage on. What a word is it does
    not say. Here numbers, symbols and single letters are none, nor are the Latin letters of
    formulas and code: they make a thought neither better nor worse. Letters of any other script
    count, there too. Words of one script are told apart by sentences, among the languages of
    `among`: see language_consistency.
    None for a thought without a word, to which it does not apply; 0.0 for an answer outside the
    format, which has no such block. For other languages:
    functools.partial(language_reward, among=("en", "fr")).
    """
    return [
        0.0 if answer.think is None else language_consistency(answer.think, p.language, among)
        for p, answer in zip(problem, parsed, strict=True)
    ]
