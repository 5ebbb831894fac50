"""What the base reads of thinking: every branch once and in order, every verdict right."""

import re
from collections import Counter

import pytest
from test_worlds import drafts, read_statement

from r1lite.config import preset
from r1lite.records import Problem
from r1lite.rewards.language import language_consistency
from r1lite.stages.documents import WRITERS, countdown, document
from r1lite.stages.documents import logic as writer
from r1lite.stages.documents.common import Voice
from r1lite.world import FAMILIES, LANGUAGES, SPLITS, clusters, keyed_rng, logic, make_problem
from r1lite.world.countdown import solutions

KNIGHT = ("knight", "骑士")


def whole_search(numbers: list[int], target: int, i: int) -> list[tuple[str, frozenset]]:
    """(operation, the pair as a multiset) of every branch of a search that never gives up."""
    gold = {"numbers": numbers, "target": target}
    listed = " ".join(map(str, numbers))
    problem = Problem("p", "countdown", "c", "en", f"make {target} from {listed} .", gold)
    text = countdown._search(problem, Voice(keyed_rng("walk", i), "en"), persistence=1.0).think
    return [
        (op, tuple(sorted(map(int, (a, b)))))
        for a, op, b in re.findall(r"try (\d+) (.) (\d+) =", text)
    ]


@pytest.mark.parametrize(
    ("numbers", "target"), [([5, 5, 7], 60), ([3, 8, 11], 91), ([6, 6, 6], 72)]
)
def test_no_branch_is_tried_twice(numbers, target):
    for i in range(100):
        branches = whole_search(numbers, target, i)
        assert len(branches) == len(set(branches))


def test_the_next_branch_can_be_read_off_the_last():
    """One circle through all nine, the numbers left over in turn; entered anywhere."""
    circle = [
        (op, pair) for pair in ((3, 30), (2, 30), (2, 3)) for op in "+-*"
    ]  # left over: 2, then 3, then 30, as the question has them
    starts = set()
    for i in range(200):
        branches = whole_search([2, 3, 30], 92, i)  # all fit into 100, one branch reaches 92
        starts.add(branches[0])
        place = circle.index(branches[0])
        assert branches == (circle + circle)[place : place + len(branches)]
    assert len(starts) == 9, "where a search begins stays open"


def test_a_search_without_a_solution_ends_after_the_last_branch():
    """Such problems are only in documents: no split asks for what cannot be made."""
    for i in range(200):
        rng = keyed_rng("hopeless", i)
        problem = countdown.out_of_reach(make_problem("countdown", "train", "hopeless", i), rng)
        numbers, target = problem.gold["numbers"], problem.gold["target"]
        assert target not in solutions(tuple(sorted(numbers)))
        assert f" {target} " in f" {problem.question} ".replace("得 ", " ")
        draft = countdown._search(problem, Voice(rng, problem.language), persistence=1.0)
        branches = re.findall(r"(?:try|试) (\d+ . \d+) = \d+ (left|余) (\d+)", draft.think)
        assert len(branches) == len(set(branches)) >= 2
        assert "give up" in draft.think or "放弃" in draft.think
        assert not re.search(r"yes|对", draft.think)


def test_documents_without_a_solution_are_read_now_and_then():
    asked = [document(0, i) for i in range(3000)]
    n_hopeless = 0
    for text in asked:
        said = re.match(r"User : (?:make (\d+) from|用) (\d+) (\d+) (\d+) (?:得 (\d+) )?", text)
        if said:
            numbers = tuple(sorted(map(int, said.group(2, 3, 4))))
            n_hopeless += int(said[1] or said[5]) not in solutions(numbers)
    assert 0.06 < n_hopeless / sum(" Assistant : " in t and "vs" in t for t in asked) < 0.3


def test_worlds_are_walked_through_in_order_from_anywhere():
    starts = Counter()
    for _, draft in drafts("logic"):
        walk = [
            tuple(word in KNIGHT for word in head.replace(",", "").split()[1::2])
            for head in re.findall(r"(?:try|试) (A \S+ , B \S+ , C \S+) :", draft.think)
        ]
        assert len(walk) == len(set(walk)) <= 8
        for world, following in zip(walk, walk[1:]):
            place = logic.WORLDS.index(world)
            assert following == logic.WORLDS[(place + 1) % 8]
        starts.update(walk[:1])
    assert len(starts) == 8


def check_verdicts(judged: str, world: list[bool]) -> int:
    """Every clause of a walk through one world, by an own reading; returns how many there were."""
    n_clauses = 0
    for clause in judged.split(" . ")[0].strip(" .").split(" , "):
        said = re.match(r"([ABC]) ([^:]+) : (.+) (true|false|真|假) (\S+) (yes|no|对|不)$", clause)
        if not said:  # what follows the walk: wait, so, give up
            continue
        speaker, test = read_statement(f"{said[1]} says {said[2]}")
        recalled = dict(zip(said[3].split()[::2], said[3].split()[1::2], strict=True))
        assert set(recalled) == set(re.findall(r"[ABC]", said[2])), "who it is about"
        for person, kind in recalled.items():
            assert (kind in KNIGHT) == world["ABC".index(person)]
        assert test(world) == (said[4] in ("true", "真")), clause
        assert (said[5] in KNIGHT) == world[speaker]
        assert (test(world) == world[speaker]) == (said[6] in ("yes", "对"))
        n_clauses += 1
    return n_clauses


def walks(text: str):
    for walk in re.split(r"(?:try|试) ", text)[1:]:
        world, _, judged = walk.partition(" : ")
        yield [word in KNIGHT for word in world.replace(",", "").split()[1::2]], judged


def test_logic_drafts_judge_every_statement_rightly():
    found = [
        check_verdicts(judged, world)
        for _, draft in drafts("logic")
        for world, judged in walks(draft.think)
    ]
    assert sum(found) > 300


@pytest.mark.parametrize("language", ["en", "zh"])
def test_logic_facts_judge_whole_worlds_and_ask_no_puzzle(language):
    puzzles = {
        logic.make(cluster, language, keyed_rng("any")).question
        for split in SPLITS
        for cluster in clusters("logic", split)
    }
    asked = set()
    for i in range(300):
        text = writer.facts(Voice(keyed_rng("facts", i), language), n=2)
        question = re.split(r" (?:try|试) ", text)[0]
        asked.add(question)
        assert re.match(r"(who is who \?|谁 是 谁 \?) A", question)
        said = dict(re.findall(r"([ABC]) (?:says|说) (.+?) [.。]", question))
        for world, judged in walks(text):
            assert check_verdicts(judged, world) == 3
            for speaker, statement in said.items():
                assert f"{speaker} {statement} :" in judged, "what the question says"
        assert len(list(walks(text))) == 2
    assert len(asked) > 100 and not asked & puzzles


def test_a_search_ends_within_the_length_limit():
    """The longest walk with its tags and its answer fits, and so can come to its end."""
    lengths = []
    for i in range(500):
        problem = make_problem("countdown", "train", "walk", i)
        voice = Voice(keyed_rng("walk", i), problem.language)
        hopeless = countdown.out_of_reach(problem, voice.rng)
        lengths.append(len(countdown._search(hopeless, voice, persistence=1.0).think.split()))
    assert max(lengths) + 16 <= preset("tiny").max_new_tokens


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_voice_of_one_language_measures_as_one_language(family, language):
    """vs once counted as English, so that the longer a Chinese search, the more it "mixed"."""
    for cluster in sorted(clusters(family, "train"))[:40]:
        problem = FAMILIES[family].make(cluster, language, keyed_rng("voice", cluster))
        voice = Voice(keyed_rng("voice", cluster), language)
        draft = WRITERS[family].draft(problem, voice)
        assert language_consistency(draft.think, language) in (1.0, None), draft.think
