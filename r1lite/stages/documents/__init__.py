"""The documents that the tiny base reads, and the words it knows.

A base model has read everything: guesses, short and long searches, give-ups, missing tags, two
languages, bare facts. RL selects from that. Document i depends on (seed, i) alone.
"""

import itertools
import random

from ...prompt import TINY_TEMPLATE, render
from ...records import Problem
from ...world import FAMILIES, LANGUAGES, keyed_rng, make_problem
from ...world.common import MARKERS, MAX_NUMBER, WORDS
from ...world.science import knowledge
from . import chat, countdown, logic, programs, science
from .common import Draft, Voice

# What writes the documents of each family.
WRITERS = dict(zip(FAMILIES, (countdown, programs, science, logic, chat)))

# How many documents in a hundred are of which kind.
SHARES = {
    "sums": 14,
    "facts": 8,
    "countdown": 34,
    "programs": 12,
    "science": 11,
    "logic": 12,
    "chat": 9,
}
OUT_OF_REACH = 0.10  # the share of countdown documents whose target cannot be made
KEEPS_FORMAT = 0.45  # the share of documents with all four tags in place
STOP_TOKEN, PAD_TOKEN, UNKNOWN_TOKEN = "<eos>", "<pad>", "<unk>"
TAGS = ("<think>", "</think>", "<answer>", "</answer>")
# Words that no document of the base holds yet, kept for later stages (summaries, judges).
SPARE_WORDS = [*WORDS["spare"], *(f"<extra_{i}>" for i in range(32))]


def document(seed: int, index: int, *, reflect: bool = True) -> str:
    """Document number `index`, without the stop token.

    reflect  False leaves out every reflection marker and nothing else (the no-reflection base)
    """
    rng = keyed_rng("corpus", seed, index)
    kind = rng.choices(list(SHARES), SHARES.values())[0]
    language = rng.choice(LANGUAGES)
    if kind == "sums":
        lines = rng.choices((countdown.facts, countdown.selections), (2, 3))[0]
        return lines(Voice(rng, language, reflect=reflect), n=rng.randint(6, 14))
    if kind == "facts":
        source = rng.choices((science, chat, logic), (1, 1, 2))[0]
        n = rng.randint(1, 3) if source is logic else rng.randint(4, 10)
        return source.facts(Voice(rng, language, reflect=reflect), n=n)
    problem = make_problem(kind, "train", seed, index)
    if kind == "countdown" and rng.random() < OUT_OF_REACH:
        problem = countdown.out_of_reach(problem, rng)
    draft = WRITERS[kind].draft(problem, _voice(problem, rng, reflect))
    return f"{render(problem.question, 'tiny')} {dress(draft, rng, problem.language)}"


def _voice(problem: Problem, rng: random.Random, reflect: bool) -> Voice:
    """Mostly the question's language, sometimes the other one, sometimes both at once."""
    draw = rng.random()
    other = LANGUAGES[1 - LANGUAGES.index(problem.language)]
    language = other if draw < 0.08 else problem.language
    return Voice(rng, language, mix=0.4 if 0.08 <= draw < 0.16 else 0.0, reflect=reflect)


def dress(draft: Draft, rng: random.Random, language: str) -> str:
    """Put the tags around thinking and answer, or get them wrong in one of six ways."""
    think, answer = draft.think, draft.answer
    if rng.random() < KEEPS_FORMAT:
        return f"<think> {think} </think> <answer> {answer} </answer>"
    column = LANGUAGES.index(language)
    word, done = MARKERS["answer"][column], MARKERS["done"][column]
    return rng.choice(
        [
            f"{think} </think> <answer> {answer} </answer>",
            f"<think> {think} <answer> {answer} </answer>",
            f"<think> {think} </think> {answer}",
            f"<think> {think} </think> <answer> {answer}",
            f"<think> {think} </think> <answer> {answer} </answer> {done} .",
            f"{think} {word} {answer}",
        ]
    )


def vocabulary() -> list[str]:
    """Every token of the tiny world; a token's id is its place here.

    Read off all questions in both languages and the drafts of a few thousand documents, so a
    word that a family begins to use gets its place by itself.
    """
    numbers = [str(n) for n in range(MAX_NUMBER + 1)]
    texts = [TINY_TEMPLATE.replace("{question}", " "), *itertools.chain(*MARKERS.values())]
    for family, writer in WRITERS.items():
        for cluster, language in itertools.product(FAMILIES[family].clusters(), LANGUAGES):
            problem = FAMILIES[family].make(cluster, language, keyed_rng("words", cluster))
            draft = writer.draft(problem, Voice(keyed_rng("words", cluster), language))
            scripted = [problem.gold.get(part, "") for part in ("helpful", "bad")]
            texts += [problem.question, draft.think, draft.answer, *scripted]
    for thing, language in itertools.product(knowledge(), LANGUAGES):
        entries = chat.facts(Voice(keyed_rng("words", thing), language), 10)
        texts += [science.fact(thing, language), entries]
    texts += [document(0, index) for index in range(4000)]
    words = set(" ".join(texts).split())
    fixed = [PAD_TOKEN, STOP_TOKEN, UNKNOWN_TOKEN, *TAGS, *numbers]
    return fixed + sorted(words - set(fixed)) + [w for w in SPARE_WORDS if w not in words]
