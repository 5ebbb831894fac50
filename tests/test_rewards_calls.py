"""Calling rewards: sync or async, beside each other, and no longer than a limit."""

import asyncio
import json
import math
import threading
import time
from pathlib import Path

import pytest

from r1lite import preset, train
from r1lite.learn.health import Health
from r1lite.records import Completion, Group, Problem, UserError
from r1lite.rewards import accuracy_reward, call_rewards, format_reward, maths_reward, score
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
    with pytest.warns(UserWarning) as said:
        found = call_rewards(
            {"slow": hangs, "later": hangs_too, "length": length}, COLUMNS, seconds=0.3
        )
    end.set()
    assert time.perf_counter() - begun < 3, "the limit is for all of them together"
    assert found == {"slow": [None] * 3, "later": [None] * 3, "length": [1.0, 2.0, 3.0]}
    texts = [str(warning.message) for warning in said]
    assert len(texts) == 2 and "'slow'" in texts[0] and "'later'" in texts[1]
    assert all("3 answers count as not checked" in text for text in texts)


def test_a_value_that_comes_too_late_is_not_taken():
    end = threading.Event()

    def hangs(prompts, completions, **columns):
        end.wait(30)
        return [1.0] * len(completions)

    with pytest.warns(UserWarning, match="slow"):
        found = call_rewards({"slow": hangs}, COLUMNS, seconds=0.1)
    end.set()
    time.sleep(0.1)
    assert found == {"slow": [None] * 3}


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
    ],
)
def test_what_is_no_reward_is_refused_by_name(value, said):
    async def mine_later(prompts, completions, **columns):
        return value

    for function in (lambda prompts, completions, **columns: value, mine_later):
        with pytest.raises(UserError) as error:
            call_rewards({"length": length, "mine": function}, COLUMNS)
        assert "'mine'" in str(error.value) and said in str(error.value)


def test_an_error_of_the_function_is_its_own():
    class Mine(RuntimeError):
        pass

    def fails(prompts, completions, **columns):
        raise Mine("no such judge")

    async def fails_later(prompts, completions, **columns):
        raise Mine("no such judge")

    for function in (fails, fails_later):
        with pytest.raises(Mine, match="no such judge") as error:
            call_rewards({"mine": function, "length": length}, COLUMNS)
        assert error.traceback[-1].name in ("fails", "fails_later")


def test_a_signature_that_does_not_fit_is_pythons_own_error():
    with pytest.raises(TypeError, match="problem"):
        call_rewards({"mine": lambda prompts, completions: [0.0] * 3}, COLUMNS)


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
    scored = score([group("a", "bb")], {"accuracy": 1.0, "format": 1.0}, {"mine": length})[0]
    assert scored.rewards == (1.0, 2.0)
    assert set(scored.parts) == {"accuracy", "format", "mine"}
    assert score([group("a")], {"format": 1.0, "mine": 0.5}, {"mine": length})[0].rewards == (0.5,)
    assert score([group("a")], {"accuracy": 1.0}, {"accuracy": length})[0].rewards == (1.0,)


def test_the_token_ids_are_there_for_rewards_that_count_tokens():
    """TRL hands them to every reward; its punishment of length reads nothing else."""
    seen = []

    def tokens(prompts, completions, completion_ids, **columns):
        seen.extend(completion_ids)
        return [0.0] * len(completions)

    score([group("a", "bb")], {"accuracy": 1.0}, {"tokens": tokens})
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

    def mine(prompts, completions, **columns):
        return [None if i % 2 else 0.25 for i in range(len(completions))]

    return train(small, rewards={"mine": mine}, progress=False)


def test_none_adds_nothing_and_is_counted_in_the_log(trained, small):
    log = trained.logs[0]
    assert log.unchecked == 0.5
    weights = small.reward_weights
    rules = weights["accuracy"] * log.accuracy + weights["format"] * log.format
    assert log.reward == pytest.approx(rules + 0.25 / 2)
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
    result = train(small.change(steps=2), rewards={"mine": constant(None)}, progress=False)
    assert [log.step for log in result.logs] == [2] and result.logs[0].unchecked == 1.0
    rows = read_jsonl(metrics)
    assert [row.get("unchecked") for row in rows] == [None, 1.0]
    assert "reward/mine" not in rows[1], "a mean of nothing is no figure"


def test_a_broken_reward_ends_a_run_before_it_learns_from_it(small, tmp_path):
    for broken, kind in ((constant(math.inf), UserError), (constant("1"), UserError)):
        cfg = small.change(run_dir=str(tmp_path / "broken"))
        with pytest.raises(kind, match="'mine'"):
            train(cfg, rewards={"mine": broken}, progress=False)
        assert not (tmp_path / "broken" / "metrics.jsonl").exists()


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
