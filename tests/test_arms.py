"""The recorded arms: the null is a null, code decides the claims, the extra problems are new."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from r1lite.config import preset
from r1lite.runlog import read_json, read_jsonl
from r1lite.stages import record as record_module
from r1lite.stages.arms import (
    ARMS,
    COMPARISONS,
    Comparison,
    arm_values,
    coin_reward,
    four_numbers,
    margins,
    trusting_reward,
    verdict,
    wait_bonus,
)
from r1lite.stages.record import RECORDED, load_recorded, names, record
from r1lite.stages.zero import is_finished, run_zero
from r1lite.world import SPLITS, check_answer, clusters, countdown, make_problems, read_problems


def run(base, final):
    return {"eval": {"base": {"x": base, "also": {"y": {"x": base}}}, "final": {"x": final}}}


def test_figures_and_verdicts_by_hand():
    runs = {"a": [run(0.1, 0.5), run(0.2, 0.4)], "b": [run(0.1, 0.3), run(0.1, 0.5)]}
    gain, final = Comparison("", "a", "x"), Comparison("", "a", "x", "final")
    assert arm_values(gain, runs) == pytest.approx([0.4, 0.2])
    assert arm_values(final, runs) == [0.5, 0.4]
    assert arm_values(Comparison("", "a", "x", "final", against="b"), runs) == pytest.approx(
        [0.1, 0.0]
    )
    assert arm_values(Comparison("", "a", "x", against="c"), runs) == []
    assert arm_values(Comparison("", "c", "x"), runs) == []
    for over, figure in (("mean", 0.3), ("least", 0.2), ("most", 0.4)):
        for bound, holds in (
            ({"at_least": figure - 0.01}, True),
            ({"at_least": figure + 0.01}, False),
            ({"at_most": figure + 0.01}, True),
            ({"at_most": figure - 0.01}, False),
        ):
            assert verdict(Comparison("", "a", "x", over=over, **bound), [0.4, 0.2]) == holds


def test_every_comparison_has_a_bound_and_names_arms():
    for comparison in COMPARISONS:
        assert comparison.arm in ARMS and comparison.against in ("", *ARMS)
        assert (comparison.at_least is None) != (comparison.at_most is None)


@pytest.mark.parametrize("name", ARMS)
def test_every_arm_is_a_run(name):
    arm = ARMS[name]
    cfg = preset("tiny", **arm.changes)
    assert cfg.steps % 5 == 0 and len(arm.seeds) == 3
    every = cfg.steps // 5
    assert every % cfg.updates_per_rollout == 0, "an evaluation falls between rollouts"


def test_the_coin_is_fair_repeatable_and_blind():
    problems = make_problems("countdown", "train", 40)
    texts = [f"answer {i}" for i in range(50)]
    values = [value for p in problems for value in coin_reward([""] * 50, texts, problem=[p] * 50)]
    assert 0.47 < sum(values) / len(values) < 0.53
    assert values[:50] == coin_reward([""] * 50, texts, problem=[problems[0]] * 50)


def test_four_numbers_are_in_no_split_and_can_be_solved():
    problems = four_numbers(8)
    known = {cluster for split in SPLITS for cluster in clusters("countdown", split)}
    assert not known & {p.cluster for p in problems} and len({p.cluster for p in problems}) == 8
    assert {p.language for p in problems} == {"en", "zh"}
    for p in problems:
        table = countdown.solutions(tuple(sorted(p.gold["numbers"])))
        assert check_answer(p, table[p.gold["target"]][0])
        assert len(p.gold["numbers"]) == 4


def test_a_weak_base_is_made_once_and_its_searches_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(record_module, "WORK", tmp_path / "work")
    monkeypatch.setattr(record_module, "RECORDED", tmp_path)
    monkeypatch.setattr(record_module, "search_report", lambda policy: {"sums_right": 0.5})
    folder = record_module.make_weak_base(1, progress=False)
    written = (folder / "model.safetensors").stat().st_mtime_ns
    told = read_json(tmp_path / "base-1.json")
    assert told["search"] == {"sums_right": 0.5} and told["base_steps"] == 1 and told["command"]
    assert record_module.make_weak_base(1, progress=False) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == written


def test_every_claim_that_failed_names_its_likely_cause():
    runs = {arm: [run["run"] for run in load_recorded(f"{arm}_seed")] for arm in ARMS}
    for comparison in COMPARISONS:
        values = arm_values(comparison, runs)
        if values:
            assert verdict(comparison, values) != bool(comparison.cause), comparison.claim


def test_recording_an_arm_keeps_what_the_tables_read(cfg, tmp_path, monkeypatch):
    """A small arm, whole: further problems, other rewards, and a longer limit on the way."""
    from r1lite.stages.arms import Arm

    changes = {
        name: getattr(cfg, name)
        for name in ("model", "device", "n_problems", "group_size", "checkpoint_every")
    } | {"steps": 5, "max_new_tokens": 8, "extend_length_after": 2}  # fmt: skip
    arm = Arm(
        "zero",
        "small",
        changes,
        rewards={"accuracy": coin_reward, "format": coin_reward},
        also={"four_numbers": lambda: four_numbers(2)},
        seeds=(4,),
    )
    monkeypatch.setattr(record_module, "ARMS", {"small": arm})
    monkeypatch.setattr(record_module, "WORK", tmp_path / "work")
    monkeypatch.setattr(record_module, "RECORDED", tmp_path / "recorded")
    folder = record("small_seed4", progress=False)
    kept = read_json(folder / "run.json")
    assert {
        "stage",
        "arm",
        "seed",
        "config",
        "versions",
        "hardware",
        "command",
        "wall_seconds",
    } <= set(kept)
    for when in ("base", "final"):
        wanted = {
            "pass_at_1", "pass_at_1_lenient", "cons_at_k", "format", "mean_tokens",
            "reflection_per_answer", "reflection_per_1k_tokens", "language_consistency",
            "n_problems", "k",
        }  # fmt: skip
        assert wanted <= set(kept["eval"][when])
        assert kept["eval"][when]["also"]["four_numbers"]["n_problems"] == 2
    rows = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    by_step = {}
    for row in rows:
        by_step.setdefault(row["step"], []).append(row["problem_id"])
    assert sorted(by_step) == [0, 1, 2, 3, 4, 5]
    assert len(set(map(tuple, by_step.values()))) == 1, "the same problems at every step"
    lengths = [
        json.loads(line)["length"] for line in (folder / "metrics.jsonl").read_text().splitlines()
    ]
    assert max(lengths[:2]) <= 8 < max(lengths[2:])


@pytest.mark.parametrize("name", [name for name in names() if is_finished(RECORDED / name)])
def test_what_is_recorded_was_run_with_what_is_written_here(name):
    """A recording of other settings would be quoted as evidence for these."""
    folder = RECORDED / name
    arm, seed = ARMS[name.rsplit("_seed", 1)[0]], int(name.rsplit("_seed", 1)[1])
    kept = read_json(folder / "run.json")
    assert (kept["stage"], kept["arm"], kept["seed"]) == (arm.stage, arm.label, seed)
    for key, value in arm.changes.items():
        assert kept["config"][key] == value


def test_a_resumed_recording_counts_the_seconds_of_every_call(cfg):
    """wall_seconds was once the time of the last call alone."""
    settings = {"n_problems": 2, "k": 2, "eval_every": 2, "progress": False}
    run_zero(cfg.change(steps=4), **settings)
    for name in ("metrics.jsonl", "evals.jsonl"):  # as if the first call had taken very long
        path = Path(cfg.run_dir) / name
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            if name == "evals.jsonl":
                row["seconds"] = 100.0
            else:
                row["seconds"]["step"] = 10.0
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, summary = run_zero(cfg, **settings)
    evaluated = [row["step"] for row in read_jsonl(Path(cfg.run_dir) / "evals.jsonl")]
    assert evaluated == [0, 1, 2, 4, 6]
    assert 440 <= summary["wall_seconds"] < 500  # four evaluations and four steps were there
    assert "seconds" not in summary["eval"]["final"]


def test_four_numbers_to_train_on_are_not_those_to_be_measured_on():
    measured = {problem.cluster for problem in four_numbers()}
    made = four_numbers(400, "four numbers to train on", measured)
    assert made == read_problems("data/four_numbers.jsonl")
    assert measured.isdisjoint(problem.cluster for problem in made) and len(measured) == 40


def test_the_weak_rewards_pay_what_they_should_not():
    texts = [
        "<think> wait , wait </think> <answer> 1 </answer>",
        "<think> 2 + 2 = 5 vs 5 yes </think> <answer> 7 </answer>",
        "<think> 2 + 2 = 4 vs 5 no </think> <answer> 7 </answer>",
        "2 + 2 = 5 vs 5 yes",
        "<think> 试 2 + 2 = 5 vs 5 对 . </think> <answer> 7 </answer>",
    ]
    assert wait_bonus([""] * 5, texts) == [0.2, 0.0, 0.0, 0.0, 0.0]
    assert wait_bonus([""], ["wait " * 40]) == [1.0]
    assert trusting_reward([""] * 5, texts) == [0.0, 1.0, 0.0, 0.0, 1.0]


def test_a_gain_of_pass_at_1_has_an_interval_and_other_figures_have_none():
    ends = {"base": {"pass_at_1": 0.2, "interval": 0.03}, "final": {"pass_at_1": 0.7}}
    ends["final"]["interval"] = 0.04
    runs = {"full": [{"eval": ends}]}
    gain = Comparison("gains", "full", "pass_at_1")
    assert arm_values(gain, runs) == [pytest.approx(0.5)]
    assert margins(gain, runs) == [pytest.approx(0.05)]
    assert margins(replace(gain, of="final"), runs) == []
    assert margins(replace(gain, metric="format"), runs) == []
    assert margins(gain, {}) == []
