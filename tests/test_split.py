"""Held out means held out: a leak here would make every reported gain worthless."""

import re
from functools import cache

import pytest

from r1lite.config import preset
from r1lite.learn.rollout import draw_problems
from r1lite.prompt import TINY_TEMPLATE
from r1lite.stages import documents as corpus
from r1lite.world import FAMILIES, LANGUAGES, clusters, keyed_rng, make_problems, reflection_words

SEEDS, N_DOCUMENTS = (0, 1), 5000
COUNTDOWN = re.compile(r"make (\d+) from ((?:\d+ )+)\.|用 ((?:\d+ )+)得 (\d+) 。")
SCIENCE = re.compile(r"User : (?:(\S+) of (\S+) \?|(\S+) 的 (\S+) \?)")


@cache
def documents(seed: int, reflect: bool = True, n: int = N_DOCUMENTS) -> tuple[str, ...]:
    return tuple(corpus.document(seed, i, reflect=reflect) for i in range(n))


@cache
def vocabulary() -> tuple[str, ...]:
    return tuple(corpus.vocabulary())


def held_out_numbers() -> set[tuple[int, ...]]:
    return {tuple(sorted(map(int, c.split("-")))) for c in clusters("countdown", "held_out")}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_two_sides_share_nothing_and_leave_nothing_out(family):
    train, held_out = set(clusters(family, "train")), set(clusters(family, "held_out"))
    assert not train & held_out
    assert train | held_out == set(FAMILIES[family].clusters())
    assert 0.08 < len(held_out) / len(train | held_out) < 0.35


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("reflect", [True, False])
def test_no_document_uses_a_held_out_set_of_numbers(seed, reflect):
    """The numbers are read from the text, so a generator that draws wrongly is found out."""
    forbidden, n_found, seen = held_out_numbers(), 0, set()
    for text in documents(seed, reflect):
        for match in COUNTDOWN.finditer(text):
            numbers = tuple(sorted(map(int, (match[2] or match[3]).split())))
            assert numbers not in forbidden, text
            n_found, seen = n_found + 1, seen | {numbers}
    assert n_found > N_DOCUMENTS / 4, "the pattern no longer reads the questions"
    assert len(seen) > 300


@pytest.mark.parametrize("seed", SEEDS)
def test_no_document_searches_over_a_held_out_set_of_numbers(seed):
    """Also what the thinking uses: "try 9 - 4 = 5 left 6" is the set 4, 6, 9."""
    branch = re.compile(r"(\d+) [-+*] (\d+) = \d+ (?:left|余) (\d+) :")
    found = [
        tuple(sorted(map(int, match))) for text in documents(seed) for match in branch.findall(text)
    ]
    assert len(found) > 1000
    assert not set(found) & held_out_numbers()


@pytest.mark.parametrize("seed", SEEDS)
def test_no_document_asks_a_held_out_question(seed):
    held_out = {
        FAMILIES[family].make(cluster, language, keyed_rng("any")).question
        for family in ("programs", "logic", "chat")
        for cluster in clusters(family, "held_out")
        for language in LANGUAGES
    }
    before, after = TINY_TEMPLATE.split("{question}")
    asked = [
        text.removeprefix(before).split(after)[0]
        for text in documents(seed)
        if text.startswith(before)
    ]
    assert len(asked) > N_DOCUMENTS / 2
    assert not held_out & set(asked)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_document_asks_about_a_held_out_thing_of_science(seed):
    from r1lite.world import science

    held_out = set(clusters("science", "held_out"))
    held_out |= {science.knowledge()[thing][0] for thing in held_out}
    asked = [SCIENCE.match(text) for text in documents(seed)]
    things = {match[2] or match[3] for match in asked if match}
    assert len(things) > 50
    assert not things & held_out


@pytest.mark.parametrize("family", FAMILIES)
def test_train_and_held_out_questions_differ_in_their_words(family):
    """Two clusters that ask the same thing in the same words would leak past the split."""
    asked = {
        split: {p.question for seed in (0, 1) for p in make_problems(family, split, n, seed)}
        for split, n in (("train", 40), ("held_out", 20))
    }
    assert not asked["train"] & asked["held_out"]
    if family not in ("countdown", "science"):
        everything = {
            split: {
                FAMILIES[family].make(cluster, language, keyed_rng("any")).question
                for cluster in clusters(family, split)
                for language in LANGUAGES
            }
            for split in ("train", "held_out")
        }
        assert not everything["train"] & everything["held_out"]


@pytest.mark.parametrize("family", FAMILIES)
def test_training_never_draws_a_held_out_problem(family):
    held_out = set(clusters(family, "held_out"))
    cfg = preset("tiny", family=family, seed=3)
    for rollout in range(15):
        drawn = draw_problems(cfg, rollout)
        assert len(drawn) == cfg.n_problems
        assert not {p.cluster for p in drawn} & held_out
        assert {p.family for p in drawn} == {family}
    assert draw_problems(cfg, 4) == draw_problems(cfg, 4) != draw_problems(cfg, 5)
    assert draw_problems(cfg, 4) != draw_problems(cfg.change(seed=4), 4)


def without_reflection(text: str) -> str:
    """Cut the reflection out of a document: "wait ," and "check ... ." """
    words, kept, i = text.split(), [], 0
    while i < len(words):
        if words[i] in ("wait", "等等"):
            i += 2
        elif words[i] in ("check", "检查"):
            i = words.index(".", i) + 1
        else:
            kept.append(words[i])
            i += 1
    return " ".join(kept)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_no_reflection_corpus_is_the_same_without_its_reflection(seed):
    """Else the two bases would differ by more than what the ablation claims."""
    pairs = list(zip(documents(seed), documents(seed, reflect=False)))
    markers = set(reflection_words())
    assert len(markers) == 4
    assert not any(markers & set(bare.split()) for _, bare in pairs)
    assert sum(bool(markers & set(text.split())) for text, _ in pairs) > 400
    for text, bare in pairs:
        assert bare == without_reflection(text)


@pytest.mark.parametrize("seed", (*SEEDS, 5))
def test_every_word_of_every_document_is_in_the_vocabulary(seed):
    known = set(vocabulary())
    for reflect in (True, False):
        for text in documents(seed, reflect, n=N_DOCUMENTS if seed in SEEDS else 2000):
            assert set(text.split()) <= known, set(text.split()) - known


def test_the_vocabulary_has_no_word_twice_and_no_spaces():
    words = vocabulary()
    assert len(set(words)) == len(words)
    assert all(word and word == "".join(word.split()) for word in words)
    assert list(words) == corpus.vocabulary()
    assert words[:3] == ("<pad>", "<eos>", "<unk>")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_vocabulary_covers_every_problem(family):
    known = set(vocabulary())
    for split, n in (("train", 100), ("held_out", 20)):
        for problem in make_problems(family, split, n if family != "chat" else 20):
            assert set(problem.question.split()) <= known
            for answer in (problem.gold.get("helpful", ""), problem.gold.get("bad", "")):
                assert set(answer.split()) <= known


def test_a_document_depends_on_seed_and_index_alone():
    assert documents(0)[37] == corpus.document(0, 37)
    assert documents(0)[:50] != documents(1)[:50]
    assert len(set(documents(0))) > 0.9 * N_DOCUMENTS
