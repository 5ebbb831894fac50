"""Chat: helpful and harmless answers and the other ones, and a dictionary."""

from ...records import Problem
from ...world import science
from ...world.common import WORDS
from .common import Draft, Voice


def draft(problem: Problem, voice: Voice) -> Draft:
    """A short thought, then the helpful and harmless answer or the other one."""
    side = 0 if voice.language == "en" else 1
    good = voice.rng.random() < 0.35
    mood = ("harm" if problem.gold["kind"] == "harm" else "good") if good else "bad"
    return Draft(f"{WORDS['moods'][mood][side]} .", problem.gold["helpful" if good else "bad"])


def facts(voice: Voice, n: int) -> str:
    """A dictionary, held-out words included: they must be known, though no request used them."""
    pairs = [f"{t} {science.knowledge()[t][0]}" for t in science.clusters()]
    tables = (WORDS["topics"], WORDS["roles"], WORDS["harms"])
    pairs += [f"{en} {zh}" for table in tables for en, zh in table.items()]
    pairs += [f"{name} {name}" for name in WORDS["names"]]
    lines = voice.rng.sample(pairs, n)
    if voice.language == "zh":
        lines = [" ".join(reversed(line.split())) for line in lines]
    return " . ".join(lines) + " ."
