"""What the base reads of thinking: every branch once and in order, every verdict right."""

import re
from collections import Counter

import pytest
from test_worlds import drafts, read_statement

from r1lite.records import Problem
from r1lite.world import SPLITS, clusters, countdown, logic, make_problem
from r1lite.world.common import Voice, keyed_rng

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
    """Same pair, next operation; or a new pair once three operations are done."""
    starts, orders = set(), set()
    for i in range(200):
        branches = whole_search([2, 3, 30], 92, i)  # all fit into 100, one pair reaches 92
        starts.add(branches[0])
        orders.add(tuple(dict.fromkeys(pair for _, pair in branches)))
        for n, ((op, pair), (op2, pair2)) in enumerate(zip(branches, branches[1:]), start=1):
            if n % 3:
                assert pair2 == pair and op2 == "+-*+"["+-*".index(op) + 1]
            else:
                assert pair2 not in {p for _, p in branches[:n]}
    assert len(starts) == 9 and len(orders) == 5, "where a search begins stays open"


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
        text = logic.facts(Voice(keyed_rng("facts", i), language), n=2)
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
    """Of all searches that never give up, hardly one is longer than an answer may be."""
    lengths = []
    for i in range(500):
        problem = make_problem("countdown", "train", "walk", i)
        voice = Voice(keyed_rng("walk", i), problem.language)
        lengths.append(len(countdown._search(problem, voice, persistence=1.0).think.split()))
    assert sum(length > 310 for length in lengths) / len(lengths) < 0.03
