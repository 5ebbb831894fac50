"""Problems and checkers: a wrong verdict here would train every model on a lie."""

import itertools
import random
import re
from collections import Counter
from fractions import Fraction

import pytest

from r1lite.records import Completion, Group, Problem, UserError
from r1lite.stages.documents import WRITERS, countdown
from r1lite.stages.documents.common import Voice
from r1lite.stages.search import search_metrics
from r1lite.world import FAMILIES, SPLITS, check_answer, keyed_rng, make_problem, make_problems

MANY = 300


def some_problems(family: str, n: int = MANY) -> list[Problem]:
    return [make_problem(family, SPLITS[i % 2], "tests", i) for i in range(n)]


def drafts(family: str, n: int = MANY, mix: float = 0.0):
    for i, problem in enumerate(some_problems(family, n)):
        yield problem, WRITERS[family].draft(problem, Voice(random.Random(i), problem.language))
        if mix:
            voice = Voice(random.Random(i), problem.language, mix=mix)
            yield problem, WRITERS[family].draft(problem, voice)


def gold_answer(problem: Problem) -> str:
    """Worked out from the question alone, where the family allows it."""
    gold = problem.gold
    if problem.family == "countdown":
        return solve(gold["numbers"], gold["target"])
    if problem.family == "programs":
        return "return " + problem.cluster
    if problem.family == "science":
        return gold["letter"]
    if problem.family == "chat":
        return gold["helpful"]
    names = ("knight", "knave") if problem.language == "en" else ("骑士", "无赖")
    return " , ".join(f"{who} {names[not k]}" for who, k in zip("ABC", gold["solution"]))


APPLY = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: Fraction(a) / b,
}


def every_expression(numbers: list[int]):
    """(value, text) of all expressions with each number once: brute force, not the library's."""

    def value_of(f, x, y):
        return None if None in (x, y) or (f == "/" and y == 0) else APPLY[f](x, y)

    for a, b, c in set(itertools.permutations(numbers)):
        for f, g in itertools.product("+-*/", repeat=2):
            yield value_of(g, value_of(f, a, b), c), f"( {a} {f} {b} ) {g} {c}"
            yield value_of(f, a, value_of(g, b, c)), f"{a} {f} ( {b} {g} {c} )"


def solve(numbers: list[int], target: int) -> str:
    return next(text for value, text in every_expression(numbers) if value == target)


def test_countdown_check_agrees_with_brute_force():
    n_right = n_wrong = 0
    for problem in some_problems("countdown", 60):
        for value, text in every_expression(problem.gold["numbers"]):
            expected = value == problem.gold["target"]
            assert check_answer(problem, text) == expected, (problem, text)
            n_right, n_wrong = n_right + expected, n_wrong + (not expected)
    assert n_right > 100 and n_wrong > 1000


def test_countdown_wants_each_given_number_exactly_once():
    problem = Problem("p", "countdown", "3-4-6", "en", "", {"numbers": [6, 4, 3], "target": 21})
    assert check_answer(problem, "6 * 4 - 3")
    for wrong in (
        "21",
        "3 * ( 4 + 6 ) - 9 * 1",
        "6 * 4 - 3 + 0",
        "6 * 4 - 3 * 1",
        "( 6 * 4 - 3 ) / 1",
        "6 + 6 + 6 + 3",
    ):
        assert not check_answer(problem, wrong), wrong
    for wrong in (
        "6 * 4 - 3 = 20",
        "21 = 6 * 4 - 3",
        "the answer is 6 * 4 - 3",
        "6 * 4 - 03 -",
        "",
    ):
        assert not check_answer(problem, wrong), wrong
    twice = Problem("p", "countdown", "5-5-2", "en", "", {"numbers": [5, 5, 2], "target": 20})
    assert check_answer(twice, "( 5 + 5 ) * 2")
    assert not check_answer(twice, "5 * 2 * 2")


def test_every_target_is_reachable_and_no_reachable_target_is_missing():
    """A set whose targets were cut would make the problems easier than the docstring says."""
    from r1lite.world.countdown import solutions

    for numbers in [(1, 1, 1), (3, 4, 6), (2, 9, 13), (5, 5, 12)]:
        brute = set()
        for pair in itertools.permutations(numbers):
            a, b, c = pair
            for f, g in itertools.product("+-*", repeat=2):
                inner = APPLY[f](a, b)
                if 0 <= inner <= 100:
                    brute |= {v for v in (APPLY[g](inner, c), APPLY[g](c, inner)) if 0 <= v <= 100}
        assert set(solutions(numbers)) == brute


@pytest.mark.parametrize("family", FAMILIES)
def test_the_gold_answer_passes_and_others_fail(family):
    for problem in some_problems(family):
        right = gold_answer(problem)
        assert check_answer(problem, right), (problem, right)
        twice = "no" if family == "chat" else f"{right} {right}"  # chat only looks for words
        for wrong in (twice, "", " ", "42", "E", "return 42", "no idea"):
            assert not check_answer(problem, wrong), (problem, wrong)
        if family == "chat":
            assert not check_answer(problem, problem.gold["bad"])
            assert not check_answer(problem, f"{right} {problem.gold['bad']}")
        elif family == "science":
            assert sum(check_answer(problem, letter) for letter in "ABCD") == 1
        elif family == "logic":
            words = ("knight", "knave") if problem.language == "en" else ("骑士", "无赖")
            worlds = itertools.product(words, repeat=3)
            texts = [" , ".join(map(" ".join, zip("ABC", world))) for world in worlds]
            assert sum(check_answer(problem, text) for text in texts) == 1


def test_chat_misses_every_word_that_it_asks_for():
    for problem in some_problems("chat", 60):
        words = problem.gold["helpful"].split()
        for word in problem.gold["must"]:
            assert not check_answer(problem, " ".join(w for w in words if w != word))


def read_statement(text: str):
    """A question's clause -> (speaker, test of a world): an own reading, in both languages."""
    speaker, _, *said = text.split()
    index = "ABC".index
    if len(said) == 2:
        wanted = said[1] in ("knight", "骑士")
        return index(speaker), lambda world: world[index(said[0])] == wanted
    same = said[2] in ("same", "相同")
    return index(speaker), lambda w: (w[index(said[0])] == w[index(said[1])]) == same


def test_every_logic_puzzle_has_one_solution():
    for problem in some_problems("logic"):
        clauses = problem.question.split("?")[1].strip(" .。").split(" . ")
        statements = [read_statement(clause) for clause in clauses]
        assert [speaker for speaker, _ in statements] == [0, 1, 2]
        fitting = [
            world
            for world in itertools.product((True, False), repeat=3)
            if all(test(world) == world[speaker] for speaker, test in statements)
        ]
        assert fitting == [tuple(problem.gold["solution"])]


def test_programs_are_run_on_hidden_arguments():
    problem = Problem(
        "p", "programs", "x * 2 + 3", "en", "",
        {"shown": [[1, 5], [2, 7], [3, 9]], "tests": [[0, 3], [4, 11], [7, 17], [9, 21]]},
    )  # fmt: skip
    assert check_answer(problem, "return x * 2 + 3")
    assert check_answer(problem, "return 3 + x + x")
    fits_the_shown_alone = "return x * 2 + 3 + ( x - 1 ) * ( x - 2 ) * ( x - 3 )"
    assert not check_answer(problem, fits_the_shown_alone)
    for wrong in ("x * 2 + 3", "return", "return 5", "return x * 2", "return x * 2 + 3 ; 1"):
        assert not check_answer(problem, wrong), wrong
    for made in some_problems("programs", 60):
        shown = {x for x, _ in made.gold["shown"]}
        hidden = {x for x, _ in made.gold["tests"]}
        assert len(hidden) >= 3 and not shown & hidden
        assert all(f"( {x} )" not in made.question for x in hidden)


def _as_groups(pairs):
    rows = [(p, Completion((1,), (0.0,), f"{d.think} {d.answer} ", False)) for p, d in pairs]
    return [Group(p, (1,), (r,)) for p, r in rows]


def test_countdown_drafts_hold_only_true_sums_and_right_verdicts():
    for mix in (0.0, 0.4):
        figures = search_metrics(_as_groups(drafts("countdown", mix=mix)))
        assert figures.sums_right == figures.tries_valid == figures.yes_when_hit == 1.0
        assert figures.yes_when_miss == 0.0
        assert 0.0 < figures.hit_per_try < 1.0 and figures.tries_per_answer > 1


@pytest.mark.parametrize("family", FAMILIES)
def test_every_sum_in_a_draft_is_true(family):
    n_sums = 0
    for problem, draft in drafts(family, mix=0.4):
        for a, op, b, c in re.findall(r"(\d+) ([+*/-]) (\d+) = (\d+)", draft.think):
            assert APPLY[op](int(a), int(b)) == int(c), (problem, draft)
            n_sums += 1
        for a, b, verdict in re.findall(r"(\S+) vs (\S+) (yes|no|对|不)(?: |$)", draft.think):
            assert (a == b) == (verdict in ("yes", "对")), (problem, draft)
    assert n_sums > 100 or family in ("science", "logic", "chat")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_selections_use_the_numbers_given_and_none_that_could_be_held_out(language):
    seen, hits = set(), 0
    for i in range(300):
        text = countdown.selections(Voice(keyed_rng("selections", i), language), n=5)
        found = re.findall(
            r"(?:make (\d+) from|用) (\d+) (\d+) (\d+) (?:得 (\d+) 。|\.) (?:try|试) "
            r"(\d+) (.) (\d+) = (\d+) (?:left|余) (\d+) : "
            r"(\d+) (.) (\d+) = (\d+) vs (\d+) (yes|no|对|不) \.",
            text,
        )
        assert len(found) == 5
        for en, a, b, c, zh, x, op, y, v, left, p, op2, q, w, goal, verdict in found:
            numbers = sorted(map(int, (a, b, c)))
            assert sorted(map(int, (x, y, left))) == numbers and max(numbers) > 13
            assert sorted((p, q)) == sorted((v, left)) and goal == (en or zh)
            assert APPLY[op](int(x), int(y)) == int(v) and APPLY[op2](int(p), int(q)) == int(w)
            assert (w == goal) == (verdict in ("yes", "对"))
            seen.add(tuple(numbers))
            hits += w == goal
    assert len(seen) > 1300, "few enough to be known by heart"
    assert 0.2 < hits / 1500 < 0.4


@pytest.mark.parametrize("family", FAMILIES)
def test_drafts_are_sometimes_right_and_sometimes_wrong(family):
    """A base that is always or never right leaves RL nothing to select."""
    right = [check_answer(problem, draft.answer) for problem, draft in drafts(family)]
    assert 0.02 < sum(right) / len(right) < 0.75


def test_a_search_that_finishes_gives_a_right_answer():
    for family in ("countdown", "logic", "programs", "science"):
        n_finished = 0
        for problem, draft in drafts(family):
            if re.search(r"(?:^| )(?:so|所以) " + re.escape(draft.answer) + "$", draft.think):
                assert check_answer(problem, draft.answer), (problem, draft)
                n_finished += 1
        assert n_finished > 20, family


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_key_gives_the_same_problem(family):
    for i in range(20):
        a, b = (make_problem(family, "train", "k", i) for _ in range(2))
        assert a == b
        draft = WRITERS[family].draft
        assert draft(a, Voice(keyed_rng(i), "en")) == draft(b, Voice(keyed_rng(i), "en"))
    assert len({make_problem(family, "train", "k", i).problem_id for i in range(40)}) > 10


@pytest.mark.parametrize("family", FAMILIES)
def test_make_problems_are_distinct_repeatable_and_spread_over_clusters(family):
    problems = make_problems(family, "held_out", 10)
    assert len({p.problem_id for p in problems}) == 10
    assert problems == make_problems(family, "held_out", 10)
    assert problems != make_problems(family, "held_out", 10, seed=1)
    counts = Counter(p.cluster for p in make_problems(family, "train", 40))
    assert max(counts.values()) <= 2


@pytest.mark.parametrize("family", ["programs", "logic", "chat"])
def test_asking_for_too_many_problems_says_how_many_there_are(family):
    with pytest.raises(UserError, match=r"Ask for at most \d+"):
        make_problems(family, "held_out", 300)
