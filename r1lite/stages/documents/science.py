"""Science: bare facts, and questions answered from them or by guessing."""

from ...records import Problem
from ...world.science import LETTERS, RELATIONS, clusters, knowledge
from .common import Draft, Voice


def fact(thing: str, language: str) -> str:
    """The fact as the base reads it, e.g. "carbon number 6"."""
    zh, relation, value = knowledge()[thing]
    en_value, zh_value = value.split("/")
    if language == "en":
        return f"{thing} {relation} {en_value}"
    return f"{zh} {RELATIONS[relation]} {zh_value}"


def draft(problem: Problem, voice: Voice) -> Draft:
    """Guess a letter, or recall the fact and go through the options."""
    rng = voice.rng
    if rng.random() < 0.65:
        letter = rng.choice(LETTERS)
        return Draft(f"{voice.say('maybe')} {letter}", letter)
    text = fact(problem.gold["thing"], problem.language) + " ."
    right = problem.gold["letter"]
    value = text.split()[-2]
    for letter, option in zip(LETTERS, problem.gold["options"]):
        text += f" {letter} {option} vs {value} {voice.say('yes' if letter == right else 'no')}"
        if letter == right:
            break
        text += " ,"
    if voice.reflects(0.3):
        text += f" . {voice.say('check')} {fact(problem.gold['thing'], problem.language)}"
    return Draft(f"{text} . {voice.say('so')} {right}", right)


def facts(voice: Voice, n: int) -> str:
    """Bare facts, held-out things included: what is known is not what is asked."""
    things = voice.rng.sample(clusters(), n)
    return " . ".join(fact(thing, voice.language) for thing in things) + " ."
