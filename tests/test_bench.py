"""The bench: its parts add up, its floor is one, its tables are made from its file."""

import itertools
import json
import re
import time

import pytest
import torch
from speed import __main__ as speed_line
from speed import floor, growth, step
from speed.trl import timed_trl

from r1lite.fast.optimizations import OPTIMIZATIONS, is_enabled
from r1lite.lab import bench, report, speed_report
from r1lite.learn.clock import Clock
from r1lite.policy import load_policy
from r1lite.records import UserError


@pytest.fixture
def small(mini_folder):
    return bench.bench_config(
        model=mini_folder, n_problems=3, group_size=4, max_new_tokens=16, steps=3, device="cpu"
    )


def row(step, rollout=1.0, train=2.0, **changes):
    seconds = {"rollout": rollout, "reward": 0.5, "train": train, "other": 0.5}
    seconds["step"] = sum(seconds.values())
    return {
        "step": step,
        "length": 10.0,
        "tokens_trained": 600,
        "tokens_computed": 800,
        "informative_groups": 0.5,
        "reward": 0.1,
        "seconds": seconds,
    } | changes


def test_figures_by_hand(small):
    """12 answers of 10 tokens; the first step does not count, the middle of three does."""
    rows = [row(1, rollout=99.0), row(2), row(3, rollout=2.0, train=3.0), row(4, train=1.0)]
    found = bench.step_metrics(rows, small)
    assert found["rollout_s"] == 1.0 and found["train_s"] == 2.0 and found["step_s"] == 4.0
    assert found["rollout_tokens_per_s"] == 120.0
    assert found["train_tokens_per_s"] == 300.0 and found["computed_tokens_per_s"] == 400.0
    assert found["padding_efficiency"] == 0.75 and found["informative_groups"] == 0.5


def test_laps_add_up_to_the_step():
    begun, total = time.perf_counter(), 0.0
    clock = Clock()
    for _ in range(2):
        for name, seconds in (("rollout", 0.02), ("train", 0.01), ("rollout", 0.01)):
            time.sleep(seconds)
            clock.lap(name)
        found = clock.read()
        assert set(found) == {"rollout", "train", "step"}
        assert found["rollout"] >= 0.03 and found["train"] >= 0.01
        assert found["rollout"] + found["train"] == pytest.approx(found["step"], abs=1e-5)
        total += found["step"]
        assert total <= time.perf_counter() - begun + 1e-5, "no second is counted twice"


def test_the_parts_of_real_steps_add_up(small):
    for measured in bench.timed_run(small):
        seconds = measured["seconds"]
        assert sum(seconds[name] for name in bench.PARTS) == pytest.approx(
            seconds["step"], rel=0.02
        )
        assert seconds["rollout"] > 0 and seconds["reward"] > 0
        assert measured["tokens_trained"] <= measured["tokens_computed"]


def test_a_run_that_is_timed_leaves_nothing(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bench.timed_run(small.change(steps=1))
    assert not list(tmp_path.iterdir())


def test_the_matrices_are_those_of_the_model(mini_folder):
    """Counted by hand: hidden 32, two key heads of 8, inner 64, two layers, 541 words."""
    model = load_policy(mini_folder, device="cpu").model
    expected = {
        (32, 32): 4,
        (32, 16): 4,
        (32, 64): 4,
        (64, 32): 2,
        (32, len(model.lm_head.weight)): 1,
    }
    assert dict(floor.matrices(model)) == expected


def test_rows_per_token():
    lengths = [5, 1, 3, 3, 9]
    found = floor.rows_per_token(lengths)
    assert found == [5, 4, 4, 2, 2, 1, 1, 1, 1] and sum(found) == sum(lengths)


def test_the_floor_is_below_the_step_and_grows_with_the_work(small, monkeypatch):
    monkeypatch.setattr(floor, "memory_speed", lambda: 1e10)
    monkeypatch.setattr(floor, "best_seconds", lambda work: 1e-4)
    model = load_policy(small.model, device="cpu").model
    short = floor.floor(model, [9, 12], [10, 20, 15], 256)
    longer = floor.floor(model, [9, 12], [20, 40, 30], 256)
    assert longer["rollout"] > short["rollout"] and longer["train"] > 1.5 * short["train"]
    assert short["step"] == short["rollout"] + short["train"]


@pytest.fixture
def all_rows(monkeypatch):
    """A random model is never right and all rewards are equal: it trains on every answer."""
    monkeypatch.setattr(step, "timed_run", lambda cfg: bench.timed_run(cfg, bench.every_answer))


def test_bench_reports_everything(small):
    found = bench.bench(small)
    for name in ("rollout_tokens_per_s", "plain_step_s", "peak_memory_mib", "reward_s", "step_s"):
        assert found[name] > 0, name
    assert all(re.fullmatch(r"\|.*\|.*\|", line) for line in bench.table(found).splitlines())


def test_a_step_is_set_beside_its_floor(small, all_rows, monkeypatch):
    monkeypatch.setattr(floor, "memory_speed", lambda: 1e10)
    monkeypatch.setattr(floor, "PROBES", 1)
    found = step.against_floor(small)
    for name in ("train_tokens_per_s", "computed_tokens_per_s", "padding_efficiency"):
        assert found[name] > 0, name
    assert found["informative_groups"] == 0.0
    assert found["step_over_floor"] > 0.5 and 0 < found["train_mfu"] < 1


def test_the_ladder_has_a_rung_for_every_optimization_and_for_all(small):
    found = bench.ladder(small.change(steps=2), rounds=1)
    assert list(found) == ["all on", *OPTIMIZATIONS, "fast/"]
    assert all(rung["step_s"] > 0 for rung in found.values())


def test_the_ladder_compares_what_was_timed_side_by_side(small, monkeypatch):
    """A machine that gets slower all the time, where one optimization alone saves a half."""
    clock = itertools.count(1)

    def timed(cfg):
        seconds = 1.01 ** next(clock) * (1.0 if is_enabled("workers") else 1.5)
        return [{"seconds": {"step": seconds}}]

    monkeypatch.setattr(bench, "timed_run", timed)
    monkeypatch.setattr(
        bench, "step_metrics", lambda rows, cfg: {"step_s": rows[0]["seconds"]["step"]}
    )
    found = bench.ladder(small, rounds=3)
    assert found["all on"]["ratio"] == 1.0
    for name, rung in found.items():
        wanted = 1.5 if name in ("workers", "fast/") else 1.0
        assert name == "all on" or rung["ratio"] == pytest.approx(1.01 * wanted)


def test_generate_writes_what_we_write(small):
    """Rates are compared only because both write answers of the same kind."""
    found = step.against_generate(small, rounds=1)
    assert found["ours"] > 0 and found["generate"] > 0
    assert found["faster"] == pytest.approx(found["ours"] / found["generate"])


def test_trl_missing_is_said_in_words(small, monkeypatch):
    import builtins

    real = builtins.__import__

    def without_trl(name, *args, **kwargs):
        if name.split(".")[0] in ("trl", "datasets"):
            raise ImportError(f"no {name}", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_trl)
    with pytest.raises(UserError, match="make setup-deep"):
        timed_trl(small, rows=4)


def test_the_readme_is_made_from_the_file(tmp_path, monkeypatch, small):
    facts = {"config": small.as_dict(), "hardware": "a machine", "versions": {"torch": "9.9"}}
    timed = {
        "rollout_s": 0.5, "train_s": 0.75, "step_s": 1.3, "rollout_tokens_per_s": 31234.0,
        "train_tokens_per_s": 2e4, "plain_step_s": 2.6,
    }  # fmt: skip
    lowest = {"step_s": 1.4, "floor_step_s": 0.61, "step_over_floor": 2.13}
    trl = {
        "median_step_s": {"ours": 1.25, "ours_plain": 2.5, "trl_tuned": 8.0, "trl_default": 20.0},
        "rounds": {"ours": [1.2, 1.3], "ours_plain": [2.4, 2.6], "trl_tuned": [7.9, 8.1],
                   "trl_default": [19.0, 21.0]},
        "trl_rows": 32,
    }  # fmt: skip
    path = tmp_path / "bench.json"
    bench.keep("step", timed, small, path)
    bench.keep("floor", lowest, small, path)
    bench.keep("trl", trl, small, path, trl="1.16.0")
    rungs = {"all on": {"step_s": 1.0, "ratio": 1.0}, "workers": {"step_s": 1.5, "ratio": 1.52}}
    bench.keep("ladder", rungs, small, path)
    assert set(json.loads(path.read_text())) == {"step", "floor", "trl", "ladder"}
    assert facts["config"] == json.loads(path.read_text())["trl"]["config"]
    readme = tmp_path / "README.md"
    readme.write_text("a\n<!-- bench:start -->\nold\n<!-- bench:end -->\nb\n")
    monkeypatch.setattr(report, "README", readme)
    monkeypatch.setattr(speed_report, "RESULT", path)
    report._replace("bench", speed_report.speed_blocks()["bench"])
    text = readme.read_text()
    assert text.startswith("a\n") and text.endswith("b\n") and "old" not in text
    for shown in (
        "1.30",
        "31,234",
        "2.1 times",
        "2.0 times as long",
        "2.50 | 2.0 x",
        "8.00 | 6.4 x",
        "20.00 | 16.0 x",
        "1.16.0",
    ):
        assert shown in text
    for shown in ("1.50 | 1.52",):
        assert shown in text


def test_peak_memory_of_a_large_vocabulary_does_not_grow_with_the_length(tokenizer):
    """Bytes held for the backward pass beyond the states, for 32k words: chunks, not V x L."""
    from r1lite.policy.logprobs import token_logps
    from r1lite.stages.base import make_model

    model = make_model(tokenizer, seed=0, shape={"hidden_size": 32, "intermediate_size": 32,
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
        "max_position_embeddings": 512, "tie_word_embeddings": True})  # fmt: skip
    model.resize_token_embeddings(32768)

    def largest(length):
        sizes = [0]

        def note(tensor):
            sizes.append(tensor.numel())
            return tensor

        ids = torch.randint(0, 32768, (4, length))
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            token_logps(model, ids).sum().backward()
        model.zero_grad()
        return max(sizes)

    n_weights = 32768 * 32
    assert largest(64) <= n_weights and largest(256) <= n_weights
    assert 10 * n_weights < 4 * 255 * 32768, "whole scores would have been seen"


def test_a_point_of_growth_is_measured_and_drawn(tmp_path, monkeypatch):
    """Also with more words than the tokenizer knows, as a large vocabulary has here."""
    monkeypatch.setattr(
        growth, "bench_config", lambda **c: bench.bench_config(**c | {"n_problems": 2})
    )
    point = {"group_size": 2, "max_new_tokens": 12, "hidden_size": 32, "vocab_size": 4096}
    found = growth.measure_point(point)
    assert found["mean_tokens"] > 10, "random weights hardly ever stop"
    assert found["train_s"] > 0 and found["peak_memory_mib"] > 100
    points = {
        name: [found | {growth.grows(name): found[growth.grows(name)] * 2**i} for i in range(3)]
        for name in growth.GROWTH
    }
    assert all(growth.grows(name) in growth.START for name in growth.GROWTH)
    growth.growth_figure(points, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_of_comparisons(tmp_path, monkeypatch, capsys):
    result = {"format": 128_000.0}
    monkeypatch.setitem(speed_line.WHAT, "rewards", lambda cfg, args: result)
    monkeypatch.setattr(speed_line, "RESULT", tmp_path / "bench.json")
    assert speed_line.main(["rewards", "--rounds", "3"]) == 0
    kept = json.loads((tmp_path / "bench.json").read_text())
    assert kept["rewards"]["figures"] == result and "hardware" in kept["rewards"]
    assert "128000" in capsys.readouterr().out
    for words in (["nothing"], ["--help"]):
        with pytest.raises(SystemExit):
            speed_line.main(words)
    assert "answers per second of each reward" in capsys.readouterr().out
