"""Science, multiple choice: four options about a fact that the base has read as a bare fact.

The split goes by fact: the fact of a held-out problem is read ("carbon number 6"), the
question about it never is, so a right answer shows use of knowledge, not recall of a quiz.
"""

import random
from functools import cache

from ..records import Problem
from .common import WORDS, made

LETTERS = ("A", "B", "C", "D")
RELATIONS = WORDS["relations"]


@cache
def knowledge() -> dict[str, tuple[str, str, str]]:
    """English name -> (Chinese name, relation, value as "en/zh" or a number)."""
    table = {}
    for relation, things in (("number", WORDS["elements"]), ("place", WORDS["planets"])):
        for rank, (en, zh) in enumerate(things.items(), start=1):
            table[en] = (zh, relation, f"{rank}/{rank}")
    for relation, groups in (("class", WORDS["classes"]), ("state", WORDS["states"])):
        for value, members in groups.items():
            for en, zh in members.items():
                table[en] = (zh, relation, value)
    return table


def clusters() -> tuple[str, ...]:
    """Every thing that there is a fact about."""
    return tuple(knowledge())


def make(cluster: str, language: str, rng: random.Random) -> Problem:
    """One question about this thing, its value among three others in random order."""
    zh, relation, value = knowledge()[cluster]
    others = {v for _, r, v in knowledge().values() if r == relation} - {value}
    options = rng.sample(sorted(others), 3) + [value]
    rng.shuffle(options)
    side = 0 if language == "en" else 1
    shown = [option.split("/")[side] for option in options]
    listed = " ".join(f"{letter} {option}" for letter, option in zip(LETTERS, shown))
    question = {
        "en": f"{relation} of {cluster} ? {listed} .",
        "zh": f"{zh} 的 {RELATIONS[relation]} ? {listed} 。",
    }[language]
    name, letter = f"{cluster}/{'-'.join(shown)}", LETTERS[options.index(value)]
    gold = {"letter": letter, "options": shown, "thing": cluster}
    return made("science", name, cluster, language, question, **gold)


def check(problem: Problem, answer: str) -> bool:
    """True if the answer is exactly the right letter."""
    return answer.strip() == problem.gold["letter"]
