"""The figures that every table quotes, by hand and by an independent computation."""

import itertools
import math
import random
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from r1lite.evaluation import (
    clustered_interval,
    evaluate,
    grade,
    pass_at_k,
    pass_curve,
)
from r1lite.evaluation.reflection import is_readable, reflection_markers, second_attempts
from r1lite.prompt import split_answer
from r1lite.records import UNCHECKED, Answer, Completion, Group, Problem, UserError
from r1lite.rewards import add_checker, score
from r1lite.rewards.language import language_consistency
from r1lite.stages.search import search_metrics
from r1lite.world import CHECKERS, as_problems, make_problems


def problem(numbers, target, name="p"):
    cluster = "-".join(map(str, sorted(numbers)))
    gold = {"numbers": list(numbers), "target": target}
    return Problem(f"{name}/{target}", "countdown", cluster, "en", "", gold)


def group(asked, *texts, truncated=()):
    rollouts = tuple(
        Completion(
            tuple(range(len(t.split()) + 1)), (0.0,) * (len(t.split()) + 1), t, i in truncated
        )
        for i, t in enumerate(texts)
    )
    return Group(asked, (1,), rollouts)


def sandwich(values, clusters) -> float:
    """Cluster-robust interval of a mean: (X'X)^-1 (sum over clusters of X'u u'X) (X'X)^-1."""
    values, names = np.array(values), np.array(clusters)
    n, kinds = len(values), sorted(set(clusters))
    residuals = values - values.mean()
    meat = sum(residuals[names == kind].sum() ** 2 for kind in kinds)
    variance = meat / n**2 * len(kinds) / (len(kinds) - 1)
    return 1.96 * float(np.sqrt(variance))


@pytest.mark.parametrize("seed", range(5))
def test_the_clustered_interval_agrees_with_numpy(seed):
    rng = random.Random(seed)
    clusters = [f"c{rng.randint(0, 9)}" for _ in range(40)]
    values = [rng.random() for _ in clusters]
    assert clustered_interval(values, clusters) == pytest.approx(sandwich(values, clusters))
    apart = clustered_interval(values, list(map(str, range(40))))
    assert apart == pytest.approx(1.96 * np.std(values, ddof=1) / math.sqrt(40))


def test_problems_of_one_cluster_are_not_independent():
    """Ten copies of each of four values know no more than the four values do."""
    values, clusters = [0.0, 1.0, 1.0, 0.0] * 10, list("abcd") * 10
    four = clustered_interval([0.0, 1.0, 1.0, 0.0], list("abcd"))
    assert clustered_interval(values, clusters) == pytest.approx(four)
    assert four > 2.5 * clustered_interval(values, list(map(str, range(40))))
    assert math.isnan(clustered_interval([0.2, 0.4], ["a", "a"]))
    assert clustered_interval([0.5, 0.5], ["a", "b"]) == 0.0
    with pytest.raises(ValueError):
        clustered_interval([0.1, 0.2], ["a"])


def test_the_interval_covers_the_truth_about_95_times_in_100():
    rng, n_covered = np.random.default_rng(0), 0
    clusters = [str(i) for i in range(80) for _ in range(3)]
    for _ in range(400):
        values = np.repeat(rng.normal(0.5, 0.1, 80), 3) + rng.normal(0, 0.1, 240)
        n_covered += abs(values.mean() - 0.5) <= clustered_interval(values.tolist(), clusters)
    assert 0.91 < n_covered / 400 < 0.98


@pytest.mark.parametrize("n", [1, 4, 7])
def test_pass_at_k_is_the_share_of_draws_with_a_right_one(n):
    """Against an enumeration of every way to draw k of n answers."""
    for n_right in range(n + 1):
        answers = [True] * n_right + [False] * (n - n_right)
        for k in range(1, n + 1):
            draws = [any(draw) for draw in itertools.combinations(answers, k)]
            assert pass_at_k(n, n_right, k) == pytest.approx(sum(draws) / len(draws))


def test_pass_at_k_is_exact_where_binomials_overflow_and_unbiased():
    assert pass_at_k(256, 1, 256) == 1.0 and pass_at_k(256, 0, 256) == 0.0
    exact = 1 - Fraction(math.comb(2000 - 3, 700), math.comb(2000, 700))
    assert pass_at_k(2000, 3, 700) == pytest.approx(float(exact), rel=1e-12)
    rng, p = np.random.default_rng(0), 0.1
    mean = np.mean([pass_at_k(16, int(c), 8) for c in rng.binomial(16, p, 20_000)])
    assert mean == pytest.approx(1 - (1 - p) ** 8, abs=0.01)
    with pytest.raises(ValueError, match="pass@5 of 1 right among 4"):
        pass_at_k(4, 1, 5)


def test_the_pass_curve_starts_at_pass_at_1():
    a, b = problem((6, 4, 3), 21), problem((1, 2, 3), 6)
    right, wrong = (f"<think> x </think> <answer> {e} </answer>" for e in ("6 * 4 - 3", "6"))
    groups = [group(a, right, wrong, wrong, wrong), group(b, wrong, wrong, wrong, wrong)]
    curve = pass_curve(groups, (1, 2, 4))
    assert curve == pytest.approx({1: 0.125, 2: 0.25, 4: 0.5})
    assert curve[1] == grade(groups).pass_at_1


def test_lengths_of_right_and_wrong_answers_are_told_apart():
    a = problem((6, 4, 3), 21)
    report = grade([group(a, "<think> x </think> <answer> 6 * 4 - 3 </answer>", "no", "no no no")])
    assert (report.mean_tokens_right, report.mean_tokens_wrong) == (11, 3)
    assert grade([group(a, "no")]).mean_tokens_right is None


def test_second_attempts_need_no_word_of_reflection():
    a = problem((6, 4, 3), 21)
    texts = ["try 6 + 4 = 10 no . try 6 - 4 = 2 no . 试 3", "wait , wait", "so 6", "try 1"]
    report = grade([group(a, *texts)])
    assert report.second_attempts == 2 / 4 and report.reflection_per_answer == 2 / 4


@pytest.mark.parametrize(
    ("text", "readable"),
    [
        ("<think> try 6 no . wait </think> <answer> 6 </answer>", True),
        ("<think> 6 + 4 = 10 </think> <answer> 6 </answer>", True),  # no word, no other language
        ("<think> try 6 no . 等等 </think> <answer> 6 </answer>", False),  # mixed
        ("<think> try 6 no . try 6 no . so </think> <answer> 6 </answer>", False),  # said twice
        ("<think> try 6 no . wait <answer> 6 </answer>", False),  # a tag is missing
        ("", False),
    ],
)
def test_readable(text, readable):
    assert is_readable(split_answer(text), "en") == readable


def test_grade_by_hand():
    """Two problems, two answers each: one strictly right, one right but without tags."""
    a, b = problem((6, 4, 3), 21), problem((1, 2, 3), 6)
    report = grade(
        [
            group(
                a,
                "<think> wait , wait </think> <answer> 6 * 4 - 3 </answer>",  # 11 words
                "check 6 * 4 - 3",  # 6 words
            ),
            group(b, "<think> 等等 </think> <answer> 1 + 2 </answer>", "1 + 2", truncated=(1,)),
        ]
    )
    assert report.pass_at_1 == 0.25  # (1/2 + 0) / 2
    assert report.pass_at_1_lenient == 0.5
    assert report.cons_at_k == 0.5  # a's only vote is right; b's is wrong
    # a: all English, English; b: all Chinese in an English question, no words at all
    assert report.language_consistency == pytest.approx(2 / 3)
    assert report.format == 0.5
    assert report.truncated == 0.25
    assert report.mean_tokens == (13 + 7 + 9 + 4) / 4
    assert report.reflection_per_answer == 4 / 4
    assert report.reflection_per_1k_tokens == pytest.approx(1000 * 4 / 33)
    assert (report.n_problems, report.k) == (2, 2)
    assert report.interval == pytest.approx(sandwich([0.5, 0.0], ["3-4-6", "1-2-3"]))
    assert report.as_dict()["pass_at_1"] == 0.25


def test_the_majority_counts_answers_in_the_format_only():
    asked = problem((6, 4, 3), 21)
    right = "<think> a </think> <answer> 6 * 4 - 3 </answer>"
    wrong = "<think> a </think> <answer> 6 + 4 + 3 </answer>"

    def cons(*texts):
        return grade([group(asked, *texts)]).cons_at_k

    assert cons(right, right, wrong) == 1.0
    assert cons(wrong, right, wrong) == 0.0
    assert cons(wrong, right) == 0.0 and cons(right, wrong) == 1.0, "the first of equals counts"
    assert cons(right, "6 + 4 + 3", "6 + 4 + 3", "6 + 4 + 3") == 1.0
    assert cons("6 * 4 - 3", "6 * 4 - 3") == 0.0


@pytest.mark.parametrize(
    ("text", "language", "share"),
    [
        ("<think> try 3 + 4 = 7 , wait </think>", "en", 1.0),
        ("<think> try 3 + 4 = 7 , wait </think>", "zh", 0.0),
        ("try 等 wait 试", "zh", 0.5),
        ("3 + 4 = 7 vs A x", "en", None),  # "vs" is a sign here, A and x are names
        ("试 3 + 4 = 7 vs 8 不 return x", "zh", 1.0),
        ("3 + 4 = 7", "en", None),
        ("", "zh", None),
    ],
)
def test_language_consistency(text, language, share):
    assert language_consistency(text, language) == share


def test_pass_at_1_is_the_mean_over_problems():
    right = "<think> a </think> <answer> 6 * 4 - 3 </answer>"
    asked = problem((6, 4, 3), 21)
    report = grade([group(asked, right, right, "no", "no"), group(asked, *[right] * 4)])
    assert report.pass_at_1 == 0.75
    assert math.isnan(report.interval), "one cluster cannot tell its own spread"


SEARCH = (
    "<think> try 6 * 4 = 24 left 3 : 24 + 3 = 27 vs 21 no , 24 - 3 = 21 vs 21 yes . "
    "so ( 6 * 4 ) - 3 </think> <answer> ( 6 * 4 ) - 3 </answer>"
)


def figures(text, numbers=(6, 4, 3), target=21):
    return search_metrics([group(problem(numbers, target), text)])


def test_a_perfect_search_by_hand():
    found = figures(SEARCH)
    assert (found.sums_right, found.tries_valid) == (1.0, 1.0)
    assert (found.yes_when_hit, found.yes_when_miss) == (1.0, 0.0)
    assert (found.tries_per_answer, found.hit_per_try) == (2.0, 0.5)
    assert (found.gives_up, found.group_size) == (0.0, 1)


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("try 6 * 4 = 23 left 3 : 23 - 3 = 20 vs 21 no . ", "sums_right", 0.5),
        ("try 6 * 4 = 24 left 3 : 24 - 4 = 20 vs 21 no . ", "tries_valid", 0.0),
        ("try 6 * 5 = 30 left 3 : 30 - 3 = 27 vs 21 no . ", "tries_valid", 0.0),
        ("try 6 * 4 = 24 left 3 : 4 - 3 = 1 vs 21 no . ", "tries_valid", 0.0),
        ("24 - 3 = 21 vs 21 yes . ", "tries_valid", 0.0),
        ("try 6 * 4 = 24 left 3 : 24 - 3 = 21 vs 21 no . ", "yes_when_hit", 0.0),
        ("try 6 * 4 = 24 left 3 : 24 + 3 = 27 vs 21 yes . ", "yes_when_miss", 1.0),
        ("try 6 * 4 = 24 left 3 : 24 + 3 = 27 vs 27 yes . ", "yes_when_miss", 1.0),
        ("试 6 * 4 = 24 余 3 : 24 - 3 = 21 vs 21 对 . ", "yes_when_hit", 1.0),
        ("试 6 * 4 = 24 余 3 : 24 - 3 = 21 vs 21 不 . ", "yes_when_hit", 0.0),
        ("maybe 6 + 4 + 3 give up , guess 6 + 4 ", "gives_up", 1.0),
        ("放弃 , 猜 6 + 4 ", "gives_up", 1.0),
        ("nothing here ", "tries_per_answer", 0.0),
    ],
)
def test_each_fault_moves_its_own_figure(text, field, value):
    assert getattr(figures(text), field) == value


def test_tries_belong_to_the_branch_before_them():
    text = (
        "try 6 * 4 = 24 left 3 : 24 + 3 = 27 vs 21 no . wait , "
        "try 6 + 3 = 9 left 4 : 9 + 4 = 13 vs 21 no , 24 - 3 = 21 vs 21 yes . "
    )
    found = figures(text)
    assert found.tries_valid == pytest.approx(2 / 3)
    assert found.tries_per_answer == 3


def test_a_number_given_twice_may_be_used_twice():
    text = "try 5 + 5 = 10 left 2 : 10 * 2 = 20 vs 20 yes . "
    assert figures(text, (5, 5, 2), 20).tries_valid == 1.0
    assert figures(text, (5, 4, 2), 20).tries_valid == 0.0


def test_figures_of_nothing_are_zero_not_nan():
    assert all(not math.isnan(v) for v in vars(figures("")).values())


def test_evaluate_samples_what_grade_grades(mini):
    problems = make_problems("countdown", "held_out", 4)
    settings = {"k": 3, "max_new_tokens": 12}
    report = evaluate(mini, problems, **settings)
    assert report == evaluate(mini, problems, **settings)
    assert (report.n_problems, report.k) == (4, 3)
    assert report != evaluate(mini, problems, **settings, seed=9)
    assert 0 < report.mean_tokens <= 12 and 0 <= report.truncated <= 1


def test_held_out_never_holds_a_training_problem_and_fills_up():
    from r1lite.stages.held_out import held_out
    from r1lite.world import FAMILIES, clusters

    for family in FAMILIES:
        found = held_out(family, 80)
        allowed = set(clusters(family, "held_out"))
        assert {p.cluster for p in found} <= allowed
        assert len({p.problem_id for p in found}) == len(found) >= min(80, len(allowed))
        assert found == held_out(family, 80)


def test_an_own_task_with_its_own_checker_in_fifteen_lines(mini, monkeypatch):
    monkeypatch.setitem(CHECKERS, "longest", None)  # taken out again after the test
    add_checker("longest", lambda problem, final: final == problem.gold["word"], ("word",))
    rows = [
        {"family": "longest", "question": "try vs wait", "gold": {"word": "wait"}},
        {"family": "longest", "question": "check vs no", "gold": {"word": "check"}},
    ]
    problems = as_problems(rows)
    assert [p.problem_id for p in problems] == ["row/1", "row/2"]
    words = ("wait", "try")
    texts = [f"<think> a </think> <answer> {word} </answer>" for word in words]
    scored = score([group(p, *texts) for p in problems], {"accuracy": 1.0})
    assert [g.parts["accuracy"] for g in scored] == [(1.0, 0.0), (0.0, 0.0)]
    assert grade(scored).pass_at_1 == grade(scored).pass_at_1_lenient == 0.25
    report = evaluate(mini, rows, k=2, max_new_tokens=8, rewards=[lambda text: len(text)])
    assert report.n_problems == 2 and report.rewards["reward"] > 1
    with pytest.raises(UserError, match="row 1.*gold lacks word.*'longest'"):
        evaluate(mini, [rows[0] | {"gold": {}}])
    unknown = problem((1, 2, 3), 6)
    with pytest.raises(UserError, match="'mine' is unknown.*add_checker"):
        score([group(replace(unknown, family="mine"), *texts)], {"accuracy": 1.0})


def test_a_checker_that_cannot_tell_is_unchecked(monkeypatch):
    monkeypatch.setitem(CHECKERS, "judged", None)
    add_checker("judged", lambda problem, final: None if final == "?" else final == "yes")
    asked = as_problems([{"family": "judged", "question": "q", "gold": {}}])[0]
    texts = [f"<think> a </think> <answer> {word} </answer>" for word in ("yes", "no", "?")]
    scored = score([group(asked, *texts, "no format")], {"accuracy": 1.0})
    assert scored[0].parts["accuracy"] == (1.0, 0.0, UNCHECKED, 0.0)
    assert scored[0].rewards == (1.0, 0.0, UNCHECKED, 0.0)
    report = grade(scored)
    assert (report.pass_at_1, report.unchecked) == (0.25, 0.25)


def test_evaluate_takes_template_and_limit_of_a_run(mini, cfg):
    problems = make_problems("countdown", "held_out", 2)
    report = evaluate(mini, problems, cfg, k=2)
    assert report == evaluate(mini, problems, k=2, max_new_tokens=16, template="tiny")
    assert report == evaluate(mini, problems, cfg.change(template="r1-zero"), k=2, template="tiny")
    longer = cfg.change(extend_length_after=3)
    assert evaluate(mini, problems, longer, k=2).mean_tokens >= report.mean_tokens
    assert report.rewards == {}
    given = evaluate(mini, problems, cfg, k=2, rewards={"format": 1.0, "none": lambda text: None})
    assert given.rewards == {"format": report.format}, "a mean of nothing is left out"


def test_real_text_is_read_as_it_is_written():
    """Signs stand at words there, sentences end without a space, Chinese has none at all."""
    real = "Let me try 3. Wait, that's 4! Check: try again.\nTry 5? 等等，再检查一下。试试看。"
    assert reflection_markers(real) == 4
    assert second_attempts(real) == 4
    assert reflection_markers("The waiter waits for checkers.") == second_attempts("A tryout.") == 0
    twice = Answer("It is 24. So it is. It is 24.", "24")
    assert not is_readable(twice, "en") and is_readable(Answer("It is 2.5. It is 2.6.", "2"), "en")
    assert not is_readable(Answer("是二十四。对吗？是二十四。", "24"), "zh")


def test_a_limit_of_time_in_a_checker_is_for_one_problem_of_an_evaluation(monkeypatch):
    """A rollout may not wait; an evaluation that stops checking would report a low pass@1."""
    calls = []

    def check_many(problems, finals):
        calls.append(len(problems))
        return [True] * len(problems)

    monkeypatch.setitem(CHECKERS, "slow", replace(CHECKERS["maths"], check_many=check_many))
    text = "<think> a </think> <answer> 1 </answer>"
    groups = [
        Group(
            Problem(str(i), "slow", str(i), "en", "", {"answer": "1"}),
            (),
            (Completion((1,), (0.0,), text, False),) * 2,
        )
        for i in range(3)
    ]
    assert grade(groups).pass_at_1 == 1.0 and calls[:3] == [2, 2, 2]
