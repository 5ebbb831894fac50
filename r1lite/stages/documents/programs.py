"""Small programs: blind guesses, half derivations and whole ones."""

from ...records import Problem
from .common import Draft, Voice


def draft(problem: Problem, voice: Voice) -> Draft:
    """A blind guess, a right slope with a guessed offset, or the whole derivation."""
    rng = voice.rng
    y1, y2, y3 = (y for _, y in problem.gold["shown"])
    effort = rng.random()
    if effort < 0.40:
        line = f"return x * {rng.randint(1, 9)} + {rng.randint(0, 12)}"
        return Draft(f"{voice.say('maybe')} {line}", line)
    slope, linear = y2 - y1, y3 - y2 == y2 - y1
    text = f"{y2} - {y1} = {slope} , {y3} - {y2} = {y3 - y2}"
    text += f" {voice.say('same' if linear else 'differ')}"
    stem, first = (f"x * {slope}", slope) if linear else ("x * x", 1)
    text += f" {voice.say('so')} {stem} ."
    if effort < 0.62:
        line = f"return {stem} + {rng.randint(0, 12)}"
        return Draft(f"{text} {voice.say('maybe')} {line}", line)
    if y1 >= first:
        tail, work = f"+ {y1 - first}", f"{y1} - {first} = {y1 - first}"
    else:
        tail, work = f"- {first - y1}", f"{first} - {y1} = {first - y1}"
    text += f" {work} {voice.say('so')} {tail} ."
    if voice.reflects(0.4, n_markers=2):
        product = 3 * (slope if linear else 3)
        text += f" {voice.say('check')} 3 * {product // 3} = {product} , {product} {tail} = {y3}"
        text += f" vs {y3} {voice.say('yes')} ."
    line = f"return {stem} {tail}"
    return Draft(f"{text} {voice.say('so')} {line}", line)
