"""Rewards: what is paid here is what the model becomes."""

import inspect
import random
import re

import pytest

from r1lite import preset, rewards
from r1lite.config import PRESETS
from r1lite.records import UNCHECKED, Completion, Group, Problem
from r1lite.rewards import RULES, accuracy_reward, as_rewards, format_reward, is_right_output, score
from r1lite.world import FAMILIES, check_answer, make_problem

MAKE_21 = Problem("p", "countdown", "3-4-6", "en", "make 21", {"numbers": [6, 4, 3], "target": 21})
RIGHT = "<think> 6 * 4 = 24 </think> <answer> 6 * 4 - 3 </answer>"
WRONG = "<think> 6 * 4 = 24 </think> <answer> 6 + 4 + 3 </answer>"
BARE = "6 * 4 - 3"


def group(*texts: str, problem: Problem = MAKE_21) -> Group:
    return Group(problem, (1,), tuple(Completion((1, 2), (0.0, 0.0), t, False) for t in texts))


@pytest.mark.parametrize("reward", RULES.values())
def test_the_signature_is_trls(reward):
    """TRL calls with keywords and every column of the data set; unknown ones must be let pass."""
    values = reward(
        prompts=["q", "q", "q"],
        completions=[RIGHT, WRONG, BARE],
        completion_ids=[[1], [2], [3]],
        problem=[MAKE_21] * 3,
        trainer_state=None,
        log_extra=print,
        log_metric=print,
    )
    assert isinstance(values, list) and all(type(v) is float for v in values)
    assert list(inspect.signature(reward).parameters)[:2] == ["prompts", "completions"]


def test_accuracy_is_strict_and_format_asks_for_no_truth():
    columns = {"problem": [MAKE_21] * 3}
    assert accuracy_reward(["q"] * 3, [RIGHT, WRONG, BARE], **columns) == [1.0, 0.0, 0.0]
    assert format_reward(["q"] * 3, [RIGHT, WRONG, BARE], **columns) == [1.0, 1.0, 0.0]


def test_each_completion_is_checked_against_its_own_problem():
    other = Problem("o", "countdown", "3-4-6", "en", "", {"numbers": [6, 4, 3], "target": 13})
    columns = {"problem": [MAKE_21, other]}
    assert accuracy_reward(["a", "b"], [RIGHT, WRONG], **columns) == [1.0, 1.0]
    assert accuracy_reward(["a", "b"], [WRONG, RIGHT], **columns) == [0.0, 0.0]


def test_a_missing_completion_is_an_error_not_a_shift():
    with pytest.raises(ValueError):
        accuracy_reward(["q"], [RIGHT, WRONG], problem=[MAKE_21])


@pytest.mark.parametrize(
    "text",
    [
        f"{RIGHT} done",
        f"done {RIGHT}",
        f"{RIGHT} {WRONG}",
        f"{WRONG} {RIGHT}",
        f"{RIGHT} {RIGHT}",
        f"<think> a </think> 6 * 4 - 3 {WRONG}",
        "<think> a </think> <answer> the answer is 6 * 4 - 3 </answer>",
        "<think> a </think> <answer> 6 * 4 - 3 = 20 </answer>",
        "<think> a </think> <answer> 6 + 4 + 3 , 6 * 4 - 3 </answer>",
        "<think> 6 * 4 - 3 </think> <answer> 21 </answer>",
        "<think> </think> <answer> 6 * 4 - 3 </answer>",
        BARE,
        "",
    ],
)
def test_text_around_a_right_answer_never_pays(text):
    assert accuracy_reward(["q"], [text], problem=[MAKE_21]) == [0.0]
    assert score([group(text)], {"accuracy": 1.0})[0].rewards == (0.0,)


def test_every_kind_of_bad_gold_pays_nothing():
    """A gold answer that cannot be read must not turn into a reward for everyone."""
    golds = {
        "countdown": [
            {"numbers": [], "target": 21},
            {"numbers": [6, 4, 3], "target": None},
            {"numbers": [6, 4, 3], "target": "21?"},
            {"numbers": ["6", "4", "3"], "target": 21},
            {"numbers": [6, 4, 3], "target": float("nan")},
        ],
        "programs": [{"tests": [], "shown": []}, {"tests": [[0, None]], "shown": []}],
        "science": [{"letter": ""}, {"letter": None}, {"letter": "?"}],
        "logic": [{"solution": []}],
        "chat": [{"must": [], "must_not": []}],
    }
    answers = ["6 * 4 - 3", "21", "return 1", "return x", "A", "?", "A knight", "hello", "None"]
    assert set(golds) == set(FAMILIES)
    for family, bad in golds.items():
        for gold in bad:
            problem = Problem("p", family, "c", "en", "q", gold)
            for answer in answers[:-1] if gold.get("letter") == "?" else answers:
                if answer == gold.get("letter"):
                    continue
                text = f"<think> a </think> <answer> {answer} </answer>"
                assert not is_right_output(problem, text), (family, gold, answer)
            assert not is_right_output(problem, "<think> a </think> <answer> </answer>")


@pytest.mark.parametrize("family", FAMILIES)
def test_random_words_are_hardly_ever_right(family):
    rng, n_right = random.Random(0), 0
    words = ["6", "4", "3", "*", "-", "+", "A", "B", "knight", "return", "x", "hello", "是", "yes"]
    for i in range(300):
        answer = " ".join(rng.choices(words, k=rng.randint(1, 6)))
        n_right += check_answer(make_problem(family, "train", i), answer)
    assert n_right < (60 if family == "science" else 15)


@pytest.mark.parametrize("name", PRESETS)
def test_accuracy_and_format_weigh_the_same_as_in_the_paper_in_all_presets_but_tiny(name):
    weights = preset(name).reward_weights
    assert weights == {"accuracy": 1.0, "format": 0.2 if name == "tiny" else 1.0}


REWARDS = [name for name in dir(rewards) if name.endswith(("_reward", "_penalty"))]


def test_all_rewards_are_known():
    assert len(REWARDS) == 6 and {f.__name__ for f in RULES.values()} <= set(REWARDS)


@pytest.mark.parametrize("name", REWARDS)
def test_a_reward_says_itself_what_its_values_mean(name):
    """Its range, what None means, and where a paper has it: whoever plugs it in reads no more."""
    said = inspect.getdoc(getattr(rewards, name))
    assert "None" in said and "paper" in said and re.search(r"arXiv \d{4}\.\d{5}", said)
    assert re.search(r"eq\. \d+|\b\d\.\d\.\d\b", said), "the section or the equation"
    assert re.search(r"\b0\.0\b", said) and re.search(r"\b1(\.0)?\b", said)


def test_weights_multiply_parts_and_parts_stay_unweighted():
    scored = score([group(RIGHT, WRONG, BARE)], {"accuracy": 1.0, "format": 0.2})[0]
    assert scored.rewards == (1.2, 0.2, 0.0)
    assert scored.parts == {"accuracy": (1.0, 0.0, 0.0), "format": (1.0, 1.0, 0.0)}
    assert score([group(RIGHT)], {"accuracy": 0.0, "format": 3.0})[0].rewards == (3.0,)


def test_none_adds_nothing_and_where_nothing_applies_there_is_no_total():
    rules = {
        "accuracy": lambda prompts, completions, **c: [None, 1.0, None],
        "format": lambda prompts, completions, **c: [1.0, 1.0, None],
    }
    scored = score([group("a", "b", "c")], as_rewards(rules, {"accuracy": 2.0, "format": 0.5}))[0]
    assert scored.rewards == (0.5, 2.5, UNCHECKED)
    assert scored.parts["accuracy"] == (None, 1.0, None)


def test_scoring_keeps_groups_and_answers_in_their_places():
    groups = [group(RIGHT, WRONG), group(BARE, RIGHT)]
    scored = score(groups, {"accuracy": 1.0})
    assert [g.rewards for g in scored] == [(1.0, 0.0), (0.0, 1.0)]
    assert [g.completions for g in scored] == [g.completions for g in groups]
    assert groups[0].rewards == ()


def test_a_reward_of_ones_own_sees_texts_and_problems():
    seen = {}

    def mine(prompts, completions, problem, **columns):
        seen.update(prompts=prompts, completions=completions, problem=problem)
        return [float(len(text)) for text in completions]

    scored = score([group("a", "bb")], {"mine": mine})[0]
    assert scored.rewards == (1.0, 2.0)
    assert seen == {
        "prompts": ["make 21"] * 2,
        "completions": ["a", "bb"],
        "problem": [MAKE_21] * 2,
    }


def test_no_rule_reads_the_length_of_an_answer():
    long = RIGHT.replace("= 24", "= 24 . " + "6 * 4 = 24 . " * 200)
    columns = {"problem": [MAKE_21] * 2}
    for reward in RULES.values():
        assert reward(["q"] * 2, [RIGHT, long], **columns) == [1.0, 1.0]
