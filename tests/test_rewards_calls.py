"""Calling rewards: sync or async, beside each other, and no longer than a limit."""

import asyncio
import functools
import inspect
import json
import math
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from r1lite import preset, train
from r1lite.learn.health import Health
from r1lite.learn.rollout import is_informative, rollout_metrics, score_all
from r1lite.records import UNCHECKED, Completion, Group, Problem, UserError
from r1lite.rewards import (
    Reward,
    accuracy_reward,
    as_rewards,
    call_rewards,
    format_reward,
    maths_reward,
    score,
)
from r1lite.runlog import read_jsonl

COLUMNS = {"prompts": ["q"] * 3, "completions": ["a", "bb", "ccc"], "problem": [None] * 3}


def length(prompts, completions, **columns):
    return [len(text) for text in completions]


async def later(prompts, completions, **columns):
    await asyncio.sleep(0.01)
    return [float(len(text)) for text in completions]


def constant(value):
    return lambda prompts, completions, **columns: [value] * len(completions)


def test_sync_and_async_functions_are_called_alike():
    found = call_rewards({"sync": length, "async": later}, COLUMNS)
    assert found == {"sync": [1.0, 2.0, 3.0], "async": [1.0, 2.0, 3.0]}
    assert all(type(value) is float for values in found.values() for value in values)


def test_an_object_and_an_async_object_may_be_a_reward():
    class Later:
        async def __call__(self, prompts, completions, **columns):
            return (1.0, None, 0.0)

    class Now:
        def __call__(self, prompts, completions, **columns):
            return (True, False, None)

    found = call_rewards({"later": Later(), "now": Now()}, COLUMNS)
    assert found == {"later": [1.0, None, 0.0], "now": [1.0, 0.0, None]}


def test_functions_run_beside_each_other():
    """Two that wait for each other would never end if they ran one after the other."""
    both = threading.Barrier(2, timeout=10)

    def waits(prompts, completions, **columns):
        both.wait()
        return [0.0] * len(completions)

    async def waits_too(prompts, completions, **columns):
        both.wait()
        return [1.0] * len(completions)

    assert call_rewards({"a": waits, "b": waits_too}, COLUMNS) == {"a": [0.0] * 3, "b": [1.0] * 3}


def test_it_works_where_a_loop_runs_already():
    """A notebook has one; a second one in the same thread is an error."""

    async def cell():
        return call_rewards({"later": later}, COLUMNS)

    assert asyncio.run(cell()) == {"later": [1.0, 2.0, 3.0]}


def test_every_column_reaches_every_function():
    seen = {}

    def mine(**columns):
        seen.update(columns)
        return [None] * 3

    call_rewards({"mine": mine}, COLUMNS | {"solution": ["x", "y", "z"]})
    assert seen == COLUMNS | {"solution": ["x", "y", "z"]}


def test_one_that_hangs_is_left_behind_and_the_others_keep_their_values():
    end = threading.Event()

    def hangs(prompts, completions, **columns):
        end.wait(30)
        return [1.0] * len(completions)

    async def hangs_too(prompts, completions, **columns):
        while not end.is_set():
            await asyncio.sleep(0.01)
        return [1.0] * len(completions)

    begun = time.perf_counter()
    limits = [Reward("slow", hangs, seconds=0.3), Reward("later", hangs_too, seconds=0.3)]
    with pytest.warns(UserWarning) as said:
        found = call_rewards([*limits, Reward("length", length)], COLUMNS)
    end.set()
    assert time.perf_counter() - begun < 3, "the limit is for all of them together"
    assert found == {"slow": [UNCHECKED] * 3, "later": [UNCHECKED] * 3, "length": [1.0, 2.0, 3.0]}
    texts = [str(warning.message) for warning in said]
    assert len(texts) == 2 and "'slow'" in texts[0] and "'later'" in texts[1]
    assert all("3 answers count as not checked" in text for text in texts)


def test_a_value_that_comes_too_late_is_not_taken():
    end = threading.Event()

    def hangs(prompts, completions, **columns):
        end.wait(30)
        return [1.0] * len(completions)

    with pytest.warns(UserWarning, match="slow"):
        found = call_rewards([Reward("slow", hangs, seconds=0.1)], COLUMNS)
    end.set()
    time.sleep(0.1)
    assert found == {"slow": [UNCHECKED] * 3}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([1.0, 2.0], "list of 3 values"),
        ([1.0] * 4, "list of 3 values"),
        ([], "list of 3 values"),
        (None, "list of 3 values"),
        (1.0, "list of 3 values"),
        ("abc", "list of 3 values"),
        ({"a": 1}, "list of 3 values"),
        ([1.0, -math.inf, 0.0], "-inf: a reward is a finite number"),
        ([1.0, math.inf, 0.0], "inf: a reward is a finite number"),
        ([1.0, "1.0", 0.0], "'1.0': a reward is a finite number"),
        ([1.0, [1.0], 0.0], "a reward is a finite number"),
        ([1.0, 1j, 0.0], "a reward is a finite number"),
        ([1.0, 0.0, 1e30], "1e+30: a reward is a finite number of at most 1,000,000"),
        ([1.0, -1e300, 0.0], "row 1 ('bb')"),
        ([1.0, 1000001, 0.0], "row 1 ('bb')"),
        ([10**400, 1.0, 0.0], "a reward is a finite number"),
        ([np.array("a"), 1.0, 0.0], "a reward is a finite number"),
    ],
)
def test_what_is_no_reward_is_refused_by_name(value, said):
    async def mine_later(prompts, completions, **columns):
        return value

    for function in (lambda prompts, completions, **columns: value, mine_later):
        with pytest.raises(UserError) as error:
            call_rewards({"length": length, "mine": function}, COLUMNS)
        assert "'mine'" in str(error.value) and said in str(error.value)


def test_an_error_of_a_function_is_named_and_its_cause_is_kept():
    class Mine(RuntimeError):
        pass

    def fails(prompts, completions, **columns):
        raise Mine("no such\njudge")

    async def fails_later(prompts, completions, **columns):
        raise Mine("no such judge")

    for function in (fails, fails_later):
        with pytest.raises(UserError, match="'mine' raised Mine: no such judge.*Fix") as error:
            call_rewards({"mine": function, "length": length}, COLUMNS)
        assert "\n" not in str(error.value) and isinstance(error.value.__cause__, Mine)
        assert error.value.__cause__.__traceback__.tb_next.tb_frame is not None
    for raised in (SystemExit("done"), StopIteration(), KeyError("gold"), asyncio.CancelledError()):

        def raises(completions, raised=raised):
            raise raised

        with pytest.raises(UserError, match=f"'mine' raised {type(raised).__name__}"):
            call_rewards({"mine": raises}, COLUMNS)

    def says(completions):
        raise UserError("the judge is not there: start it.")

    with pytest.raises(UserError, match="^the judge is not there: start it.$"):
        call_rewards({"mine": says}, COLUMNS)


@pytest.mark.parametrize("is_async", [False, True])
def test_the_row_is_named_where_one_completion_is_asked_for_at_a_time(is_async):
    texts = ["7", "8", "x" * 200, "no number"]
    columns = {"prompts": ["q"] * 4, "completions": texts, "problem": [None] * 4}

    async def later(text):
        return float(text)

    with pytest.raises(UserError) as error:
        call_rewards({"mine": later if is_async else lambda text: float(text)}, columns)
    assert f"reward 'mine', row 2 ('{'x' * 80}'), raised ValueError" in str(error.value)


def test_the_row_is_that_of_the_call_also_where_a_reward_does_not_apply_to_all():
    made = [group("a").problem, replace(group("a").problem, family="other")]
    columns = {"prompts": ["q"] * 4, "completions": ["a", "b", "1", "d"], "problem": made * 2}
    only = Reward("mine", lambda text: float(text), applies=lambda p: p.family != "other")
    with pytest.raises(UserError, match=r"row 0 \('a'\), raised"):
        call_rewards(only, columns)
    other = replace(only, applies=lambda p: p.family == "other")
    with pytest.raises(UserError, match=r"row 1 \('b'\), raised"):
        call_rewards(other, columns)
    huge = replace(other, function=lambda completions: [0.0, 1e30])
    with pytest.raises(UserError, match="row 3 ..d.."):
        call_rewards(huge, columns)
    with pytest.raises(UserError, match="`applies` of reward 'mine' raised KeyError: 'level'"):
        call_rewards(replace(only, applies=lambda p: p.gold["level"] > 3), columns)


def test_a_function_gets_what_it_has_arguments_for():
    """Its first try in a notebook is a lambda; TRL's signature is for those who know it."""

    def by_position(texts, /):
        return [len(text) for text in texts]

    async def for_one_later(completion):
        return float(len(completion))

    alike = [
        lambda completions: [len(text) for text in completions],
        lambda prompts, completions: [len(text) for text in completions],
        lambda texts: [len(text) for text in texts],
        lambda text: len(text),
        lambda completions, numbers=None: [len(text) for text in completions],
        lambda *, completions: [len(text) for text in completions],
        lambda text, scale=1: scale * len(text),
        by_position,
        for_one_later,
        functools.partial(length, prompts=None),
    ]
    found = call_rewards(as_rewards(alike), COLUMNS)
    assert len(found) == len(alike) and set(map(tuple, found.values())) == {(1.0, 2.0, 3.0)}
    seen = []
    call_rewards({"one": lambda problem: seen.extend(problem) or [0.0] * 3}, COLUMNS)
    assert seen == COLUMNS["problem"], "the name of a column is that column"


@pytest.mark.parametrize(
    "function",
    [
        lambda prompts, completions, numbers: [0.0] * 3,
        lambda texts, numbers: [0.0] * 3,
        lambda numbers: [0.0] * 3,
        lambda numbers, **columns: [0.0] * 3,
        lambda numbers, scale=1: [0.0] * 3,
        lambda completions, numbers, /: [0.0] * 3,
        lambda texts, *, numbers: [0.0] * 3,
        lambda: [0.0] * 3,
    ],
)
def test_a_signature_that_does_not_fit_is_named_with_those_that_do(function):
    if not inspect.signature(function).parameters:
        assert call_rewards({"mine": function}, COLUMNS) == {"mine": [0.0] * 3}
        return
    with pytest.raises(UserError, match="numbers.*f.completions.*prompts, completions") as error:
        call_rewards({"mine": function}, COLUMNS)
    assert "reward 'mine' asks for 'numbers': the columns are " in str(error.value)
    assert "prompts, completions, problem" in str(error.value)


def test_a_column_that_is_read_by_its_name_and_missing_is_named_with_those_there_are():
    def mine(completions, **columns):
        return [text in columns["solution"] for text in completions]

    with pytest.raises(
        UserError, match="'mine' raised KeyError: 'solution'.*columns are prompts, "
    ):
        call_rewards({"mine": mine}, COLUMNS)


def test_columns_reach_a_function_by_position_too():
    found = call_rewards(
        {"mine": lambda completions, prompts, /: [*map(len, completions)]}, COLUMNS
    )
    assert found == {"mine": [1.0, 2.0, 3.0]}


def test_values_up_to_the_limit_count_and_weights_have_the_same():
    assert call_rewards({"mine": constant(-1e6)}, COLUMNS) == {"mine": [-1e6] * 3}
    assert Reward("mine", length, weight=-1e6).weight == -1e6
    for weight in (1e30, -1.1e6, math.inf, math.nan):
        with pytest.raises(
            UserError, match="'mine' has weight.*finite number of at most 1,000,000"
        ):
            Reward("mine", length, weight=weight)
        with pytest.raises(UserError, match="'format' has weight"):
            as_rewards(None, {"format": weight})


def test_names_of_rewards():
    def short(completions):
        return [0.0] * len(completions)

    class Judge:
        def __call__(self, completions):
            return [1.0] * len(completions)

    given = [short, short, lambda text: 0.0, lambda text: 1.0, Judge(), functools.partial(short)]
    names = [reward.name for reward in as_rewards(given)]
    assert names == ["short", "short_2", "reward", "reward_2", "Judge", "short_3"]
    rules = as_rewards([accuracy_reward, short], {"accuracy": 2.0, "format": 0.5})
    weights = {reward.name: reward.weight for reward in rules}
    assert weights == {"accuracy": 2.0, "short": 1.0, "format": 0.5}
    assert [r.name for r in as_rewards(short)] == ["short"] and as_rewards() == []
    record = Reward("mine", short, weight=3.0)
    assert as_rewards([record]) == as_rewards(record) == [record]
    assert as_rewards({"yours": record})[0].name == "yours"
    for wrong in ([1.0], {"mine": 1.0}, "accuracy", 3, [Reward("a", short), Reward("a", short)]):
        with pytest.raises(UserError):
            as_rewards(wrong)
    with pytest.raises(UserError, match="weight for typo"):
        as_rewards(short, {"typo": 1.0})


def test_a_reward_is_asked_only_for_problems_that_it_applies_to():
    asked = []

    def mine(completions, problem, numbers):
        asked.append((completions, [p.problem_id for p in problem], numbers))
        return [1.0] * len(completions)

    other = replace(group("ccc", "dd").problem, problem_id="q")
    groups = [group("a", "bb"), replace(group("ccc", "dd"), problem=other)]
    only = Reward("mine", mine, weight=2.0, applies=lambda problem: problem.problem_id == "q")
    first, second = score(groups, [only])
    assert asked == [(["ccc", "dd"], ["q", "q"], [[6, 4, 3]] * 2)]
    assert first.parts["mine"] == (None, None) and second.parts["mine"] == (1.0, 1.0)
    assert first.rewards == (UNCHECKED, UNCHECKED) and second.rewards == (2.0, 2.0)
    never = Reward("never", lambda text: 1 / 0, applies=lambda problem: False)
    assert score(groups, [never])[0].parts["never"] == (None, None)


def test_what_does_not_apply_is_not_unchecked():
    values = iter([None, math.nan, 1.0, np.float32("nan")])
    scored = score([group("a", "bb", "c", "d")], [lambda text: next(values)])[0]
    assert scored.parts["reward"] == (None, UNCHECKED, 1.0, UNCHECKED)
    assert scored.rewards == (UNCHECKED, UNCHECKED, 1.0, UNCHECKED)
    assert rollout_metrics([scored])["unchecked"] == 0.5
    assert rollout_metrics([scored])["reward"] == 1.0, "the mean of what is known"
    assert rollout_metrics([scored])["reward/reward"] == 1.0
    nothing = rollout_metrics(score([group("a")], {"mine": constant(math.nan)}))
    assert nothing["unchecked"] == 1.0 and nothing["reward"] == 0.0
    assert "reward/mine" not in nothing, "a mean of nothing is no figure"


N, U = None, UNCHECKED


@pytest.mark.parametrize(
    ("weights", "parts", "totals"),
    [
        ((1, 2), ((1.0, N, 0.5), (1.0, 1.0, N)), (3.0, 2.0, 0.5)),
        ((1, 2), ((U, N, U, 0.0), (1.0, N, N, U)), (U, U, U, U)),
        ((1, 0), ((1.0, 0.0, N, U), (U, N, 1.0, 1.0)), (1.0, 0.0, U, U)),
        ((0, 0), ((1.0, U), (N, N)), (0.0, 0.0)),
        ((-1,), ((2.0, N, U),), (-2.0, U, U)),
    ],
)
def test_the_total_is_that_of_what_applies_and_unknown_where_a_part_is(weights, parts, totals):
    answers, names = group(*"abcd"[: len(totals)]), "fg"
    functions = [
        Reward(name, lambda completions, part=part: part, weight)
        for name, weight, part in zip(names, weights, parts)
    ]
    (scored,) = score([answers], functions)
    assert scored.rewards == totals and all(type(total) is float for total in scored.rewards)
    assert list(scored.parts.values()) == list(parts)


def test_a_group_teaches_where_known_rewards_differ():
    made = {
        (1.0, 1.0, U): False, (U, U, U): False, (0.0, U, float("nan")): False,
        (0.0, 1.0, U): True, (0.0, 1.0, 1.0): True, (1.0, 1.0, 1.0): False,
    }  # fmt: skip
    groups = [replace(group("a", "b", "c"), rewards=rewards) for rewards in made]
    assert [*map(is_informative, groups)] == [*made.values()]


def test_a_reward_that_runs_a_model_waits_for_all_of_the_sampling(cfg):
    order = []

    def parts():
        for name in "ab":
            order.append(f"sample {name}")
            yield [group(name)]

    judge = Reward("judge", lambda text: order.append("judge") or 1.0, needs_model=True)
    groups = score_all(parts(), cfg, [judge])
    assert order == ["sample a", "sample b", "judge", "judge"] and len(groups) == 2


def test_maths_runs_beside_the_others_in_its_own_thread():
    """Its limit needs no signal, which only the main thread gets."""
    golds = [Problem("p", "maths", "c", "en", "q", {"answer": str(n)}) for n in range(3)]
    texts = [f"<think> a </think> <answer> {n} </answer>" for n in (0, 1, 1)]
    columns = {"prompts": ["q"] * 3, "completions": texts, "problem": golds}
    found = call_rewards({"maths": maths_reward, "format": format_reward}, columns)
    assert found == {"maths": [1.0, 1.0, 0.0], "format": [1.0] * 3}


def group(*texts: str) -> Group:
    problem = Problem("p", "countdown", "c", "en", "q", {"numbers": [6, 4, 3], "target": 21})
    rollouts = tuple(Completion((1, 2, 3)[: len(t)], (0.0,), t, False) for t in texts)
    return Group(problem, (1,), rollouts)


def test_a_reward_beside_the_rules_counts_once():
    rules = {"accuracy": 1.0, "format": 1.0}
    scored = score([group("a", "bb")], as_rewards({"mine": length}, rules))[0]
    assert scored.rewards == (1.0, 2.0)
    assert set(scored.parts) == {"accuracy", "format", "mine"}
    half = as_rewards({"mine": length}, {"format": 1.0, "mine": 0.5})
    assert score([group("a")], half)[0].rewards == (0.5,)
    assert score([group("a")], {"accuracy": length})[0].rewards == (1.0,)


def test_the_token_ids_are_there_for_rewards_that_count_tokens():
    """TRL hands them to every reward; its punishment of length reads nothing else."""
    seen = []

    def tokens(prompts, completions, completion_ids, **columns):
        seen.extend(completion_ids)
        return [0.0] * len(completions)

    score([group("a", "bb")], {"tokens": tokens})
    assert seen == [[1], [1, 2]]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return preset(
        "tiny", steps=1, n_problems=2, group_size=2, max_new_tokens=16, device="cpu",
        run_dir=str(tmp_path_factory.mktemp("calls") / "run"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(small):
    """One real step with a reward that cannot tell every second answer."""
    return train(small, rewards={"mine": every_second}, progress=False)


def every_second(completions):
    return [math.nan if i % 2 else 0.25 for i in range(len(completions))]


def test_what_could_not_be_checked_has_no_total_and_is_counted_in_the_log(trained, small):
    log = trained.logs[0]
    assert log.unchecked == 0.5
    assert log.accuracy == log.format == 0.0, "so that the mean is that of the others alone"
    assert log.reward == 0.25
    row = read_jsonl(Path(small.run_dir) / "metrics.jsonl")[0]
    assert row["unchecked"] == 0.5 and row["reward/mine"] == 0.25
    assert "reward/accuracy" not in row


def test_rows_from_before_unchecked_was_counted_still_resume(trained, small):
    """Older logs lack the field: a run that they belong to must go on, with the same warnings."""
    metrics = Path(small.run_dir) / "metrics.jsonl"
    rows = read_jsonl(metrics)
    for row in rows:
        row.pop("unchecked", None)
    metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    Health().replay(read_jsonl(metrics))
    result = train(small.change(steps=2), rewards={"mine": every_second}, progress=False)
    assert [log.step for log in result.logs] == [1, 2] and result.logs[1].unchecked == 0.5
    rows = read_jsonl(metrics)
    assert [row.get("unchecked") for row in rows] == [None, 0.5]


def test_a_broken_reward_ends_a_run_before_it_learns_from_it(small, tmp_path):
    for name, value, kind in (("inf", math.inf, UserError), ("text", "1", UserError)):
        broken, cfg = constant(value), small.change(run_dir=str(tmp_path / name))
        with pytest.raises(kind, match="'mine'"):
            train(cfg, rewards={"mine": broken}, progress=False)
        assert not (Path(cfg.run_dir) / "metrics.jsonl").exists()


def test_an_error_of_a_reward_loses_no_update(small, tmp_path):
    """Whatever a function does, the checkpoint is that of the last whole update."""
    full = train(
        small.change(steps=4, run_dir=str(tmp_path / "full")), rewards=half, progress=False
    )
    for kind in ("error", "value"):
        CALLS.clear()
        cfg = small.change(steps=4, checkpoint_every=100, run_dir=str(tmp_path / kind))
        with pytest.raises(UserError, match="reward 'half'"):
            train(cfg, rewards={"half": FRAGILE[kind]}, progress=False)
        assert [p.name for p in Path(cfg.run_dir).glob("checkpoint-*")] == ["checkpoint-000002"]
        result = train(cfg, rewards={"half": FRAGILE[kind]}, progress=False)
        assert len(CALLS) == 5 and [log.step for log in result.logs] == [1, 2, 3, 4]
        for ours, theirs in zip(result.policy.model.parameters(), full.policy.model.parameters()):
            assert torch.equal(ours, theirs)


CALLS = []


def raises_once(completions):
    CALLS.append(1)
    if len(CALLS) == 3:
        raise RuntimeError("judge")
    return half(completions)


def is_huge_once(completions):
    CALLS.append(1)
    return [1e9] * len(completions) if len(CALLS) == 3 else half(completions)


FRAGILE = {"error": raises_once, "value": is_huge_once}


def test_weights_in_the_middle_of_an_update_are_not_saved(small, tmp_path, monkeypatch):
    """The optimizer fails, or a later batch of the same rollout: the last checkpoint stands."""
    calls, real = [], torch.optim.AdamW.step

    def fails(self, *args, **more):
        calls.append(1)
        if len(calls) == 4:
            raise RuntimeError("a kernel failed")
        return real(self, *args, **more)

    monkeypatch.setattr(torch.optim.AdamW, "step", fails)
    for n in (1, 2):
        calls.clear()
        cfg = small.change(steps=6, checkpoint_every=2, run_dir=str(tmp_path / f"{n}"))
        cfg = cfg.change(n_minibatches=n, learning_rate=1e-4, warmup_steps=0)
        with pytest.raises(RuntimeError, match="a kernel failed"):
            train(cfg, rewards=half, progress=False)
        assert [p.name for p in Path(cfg.run_dir).glob("checkpoint-*")] == ["checkpoint-000002"]


def half(completions):
    return [i % 2 for i in range(len(completions))]


def test_the_rules_themselves_go_through_the_same_call():
    texts = ["<think> a </think> <answer> 6 * 4 - 3 </answer>", "6 * 4 - 3"]
    columns = {"prompts": ["q"] * 2, "completions": texts, "problem": [group("a").problem] * 2}
    found = call_rewards({"accuracy": accuracy_reward, "format": format_reward}, columns)
    assert found == {"accuracy": [1.0, 0.0], "format": [1.0, 0.0]}


def test_slow_rewards_run_beside_the_writing_of_the_next_part(mini, cfg, monkeypatch):
    """The reward of the first part waits until the second is being written: else it waits alone."""
    from conftest import rollout

    from r1lite.learn.rollout import draw_problems
    from r1lite.policy import sample

    problems, second, calls = draw_problems(cfg, 0), threading.Event(), []
    real, plain = sample._decode, rollout(mini, problems, cfg, 1)

    def decode(*args):
        calls.append("write")
        if calls.count("write") == 2:
            second.set()
        return real(*args)

    def slow(prompts, completions, **columns):
        calls.append("reward")
        assert second.wait(timeout=20), "nothing is written while the reward is at work"
        return [float(len(text)) for text in completions]

    monkeypatch.setattr(sample, "_decode", decode)
    monkeypatch.setattr(sample, "ROWS_AT_ONCE", cfg.group_size)  # a part for each problem
    groups = rollout(mini, problems, cfg, 1, {"accuracy": slow})
    assert calls.count("write") == calls.count("reward") == len(problems) == 3
    texts = [[answer.text for answer in group.completions] for group in groups]
    assert texts == [[answer.text for answer in group.completions] for group in plain]
    assert [g.parts["accuracy"] for g in groups] == [tuple(map(len, part)) for part in texts]


def test_an_error_while_writing_does_not_wait_for_a_reward(mini, cfg, monkeypatch):
    from conftest import rollout

    from r1lite.learn.rollout import draw_problems
    from r1lite.policy import sample

    released, real, calls = threading.Event(), sample._decode, []

    def decode(*args):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("out of memory")
        return real(*args)

    def hangs(prompts, completions, **columns):
        released.wait(timeout=60)
        return [0.0] * len(completions)

    monkeypatch.setattr(sample, "_decode", decode)
    monkeypatch.setattr(sample, "ROWS_AT_ONCE", cfg.group_size)
    begun = time.monotonic()
    with pytest.raises(RuntimeError, match="out of memory"):
        rollout(mini, draw_problems(cfg, 0), cfg, 1, {"accuracy": hangs})
    assert time.monotonic() - begun < 30
    released.set()
