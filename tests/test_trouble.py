"""Trouble while a run is under way: a full disk, NaN, a missing package; nothing is lost."""

import errno
import json
import math
from pathlib import Path

import pytest
import torch
from conftest import VARIED
from test_resume import assert_same_run

from r1lite import runlog
from r1lite.config import preset
from r1lite.learn import checkpoint, rollout, train
from r1lite.learn.health import PATIENCE, Health, RunStopped
from r1lite.records import StepLog, UserError
from r1lite.runlog import append_jsonl, atomic_path, read_json, truncate_jsonl, write_json


def run(cfg, **kwargs):
    return train(cfg, rewards=VARIED, progress=False, **kwargs)


def leftovers(folder) -> list[Path]:
    return [p for p in Path(folder).rglob("*") if p.name.endswith(".tmp")]


@pytest.mark.parametrize("room", ["none", "model only"])
def test_a_full_disk_while_saving_keeps_the_last_checkpoint(cfg, tmp_path, room):
    """Really full: files may not grow beyond a limit, so the writes themselves fail."""
    resource = pytest.importorskip("resource", reason="limits of this kind are POSIX")
    full = cfg.change(run_dir=str(tmp_path / "full"))
    run(cfg)
    run(full.change(steps=3))
    saved = Path(full.run_dir) / "checkpoint-000003"
    model_bytes = (saved / "model.safetensors").stat().st_size
    assert (saved / "optimizer.pt").stat().st_size > model_bytes + 20_000
    limit = 30_000 if room == "none" else model_bytes + 20_000
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(UserError) as caught:
            run(full)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "could not be written" in str(caught.value) and "Free some space" in str(caught.value)
    assert "checkpoint-000006" in str(caught.value)
    assert not leftovers(full.run_dir)
    assert checkpoint.damage(saved) == ""
    assert sorted(p.name for p in Path(full.run_dir).glob("checkpoint-*")) == [saved.name]
    run(full)
    assert_same_run(cfg.run_dir, full.run_dir)


@pytest.mark.parametrize("where", ["save_policy", "torch.save", "write_json"])
def test_an_error_in_any_part_of_a_checkpoint_leaves_the_old_ones(cfg, monkeypatch, where):
    run(cfg.change(steps=3))
    folder = Path(cfg.run_dir)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        if where == "torch.save":
            patched.setattr(torch, "save", full)
        else:
            patched.setattr(checkpoint, where, full)
        with pytest.raises(UserError, match="No space left on device"):
            run(cfg)
    assert checkpoint.damage(folder / "checkpoint-000003") == "" and not leftovers(folder)
    assert [log.step for log in run(cfg).logs] == [1, 2, 3, 4, 5, 6]


def test_a_full_disk_while_logging_is_said_in_words(tmp_path):
    with pytest.raises(UserError, match="could not be extended"):
        append_jsonl(tmp_path / "no such folder" / "metrics.jsonl", {"step": 1})


def test_atomic_path_is_all_or_nothing(tmp_path):
    target = tmp_path / "file.json"
    write_json(target, {"a": 1})
    with pytest.raises(KeyboardInterrupt), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert read_json(target) == {"a": 1}
    folder = tmp_path / "folder"
    for round_ in range(2):
        with atomic_path(folder) as temporary:
            temporary.mkdir()
            (temporary / f"{round_}.txt").write_text("x")
        assert [p.name for p in folder.iterdir()] == [f"{round_}.txt"]
    with pytest.raises(ValueError), atomic_path(folder) as temporary:
        temporary.mkdir()
        (temporary / "bad.txt").write_text("x")
        raise ValueError
    assert [p.name for p in folder.iterdir()] == ["1.txt"] and not leftovers(tmp_path)


def test_a_checkpoint_appears_whole_by_one_rename(cfg, monkeypatch):
    """A kill just before the rename leaves nothing of it, one just after leaves all of it."""
    run(cfg.change(steps=3))
    real, seen = runlog.os.replace, []

    def killed(source, target):
        if Path(target).name == "checkpoint-000006":
            seen.append((checkpoint.damage(Path(source)), Path(target).exists()))
            raise KeyboardInterrupt
        real(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(runlog.os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            run(cfg)
    assert seen == [("", False)]
    assert [p.name for p in Path(cfg.run_dir).glob("checkpoint-*")] == ["checkpoint-000003"]


def test_truncating_a_log_keeps_whole_rows_up_to_a_step(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for step in (1, 2, 3):
        append_jsonl(path, {"step": step, "text": "好\u2028"})
    with path.open("a") as handle:
        handle.write('{"step": 4, "te')
    truncate_jsonl(path, 2)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    assert rows == [{"step": step, "text": "好\u2028"} for step in (1, 2)]
    truncate_jsonl(tmp_path / "none.jsonl", 2)


@pytest.mark.parametrize(
    ("poison", "kind", "said"),
    [
        ("reward", UserError, "reward 'a' gave inf.*finite number.*Fix"),
        ("weights", RunStopped, r"step 5.*nan.*finite.*learning_rate"),
    ],
)
def test_what_is_not_finite_stops_a_run_and_is_not_saved(cfg, monkeypatch, poison, kind, said):
    """Of a reward that is refused the updates before it are kept, of weights nothing is."""
    real_parts, real_score, at = rollout.sample_parts, rollout.score, []

    def poisoned_parts(policy, *args, **more):
        at.append(more["step"])
        if at[-1] == 5 and poison == "weights":
            with torch.no_grad():
                next(policy.model.parameters()).fill_(float("nan"))
        return real_parts(policy, *args, **more)

    def poisoned_score(groups, rewards, fmt):
        if at[-1] == 5 and poison == "reward":
            rewards = {"a": lambda **c: [math.inf] * len(c["completions"])}
        return real_score(groups, rewards, fmt)

    monkeypatch.setattr(rollout, "sample_parts", poisoned_parts)
    monkeypatch.setattr(rollout, "score", poisoned_score)
    with pytest.raises(kind, match=said) as caught:
        run(cfg)
    assert "\n" not in str(caught.value) and isinstance(caught.value, UserError)
    folder = Path(cfg.run_dir)
    kept = ["checkpoint-000003", "checkpoint-000004"][: 2 if poison == "reward" else 1]
    assert sorted(p.name for p in folder.glob("checkpoint-*")) == kept
    monkeypatch.setattr(rollout, "sample_parts", real_parts)
    monkeypatch.setattr(rollout, "score", real_score)
    assert [log.step for log in run(cfg).logs] == [1, 2, 3, 4, 5, 6]


def step_log(step, **changes):
    good = {
        "loss": 0.0, "grad_norm": 1.0, "reward": 0.3, "accuracy": 0.2, "format": 0.4,
        "length": 60.0, "truncated": 0.1, "kl": 0.0, "clip_fraction": 0.0,
        "informative_groups": 0.5, "sampler_gap": 1e-5, "entropy": 0.7,
    }  # fmt: skip
    return StepLog(step=step, **good | changes)


@pytest.mark.parametrize(
    ("symptom", "words"),
    [
        ({"truncated": 1.0, "informative_groups": 0.0}, "max_new_tokens"),
        ({"informative_groups": 0.0, "accuracy": 0.0, "reward": 0.2}, "too hard"),
        ({"informative_groups": 0.0, "accuracy": 1.0, "reward": 1.2}, "too easy"),
        ({"sampler_gap": 0.5}, "other weights or another temperature"),
    ],
)
def test_symptoms_are_named_once_after_a_few_steps(symptom, words):
    health, said = Health(), []
    for step in range(1, 9):
        said.append(health.observe(step_log(step, **symptom)))
    assert [len(s) for s in said] == [0] * (PATIENCE - 1) + [1] + [0] * (8 - PATIENCE)
    assert words in said[PATIENCE - 1][0] and f"step {PATIENCE}" in said[PATIENCE - 1][0]
    assert health.observe(step_log(9)) == []
    again = [health.observe(step_log(10 + i, **symptom)) for i in range(PATIENCE)]
    assert [len(s) for s in again] == [0] * (PATIENCE - 1) + [1]


def test_a_healthy_run_is_left_in_peace():
    health = Health()
    assert not any(health.observe(step_log(step)) for step in range(1, 20))


@pytest.mark.parametrize("field", ["loss", "grad_norm", "entropy"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_stops_a_run(field, value):
    with pytest.raises(RunStopped, match=str(value)):
        Health().observe(step_log(4, **{field: value}))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_rounding_in_16_bits_is_no_alarm_and_other_weights_are(dtype):
    """One unlikely token among thousands is off by nats in every healthy run; TRL's stale weights
    (its issue 5312) moved the mean from 0.015 to 0.2."""
    health = Health(dtype)
    said = [
        health.observe(step_log(i, sampler_gap=2.5, sampler_gap_mean=0.015)) for i in range(1, 9)
    ]
    assert not any(said)
    said = [health.observe(step_log(i, sampler_gap=2.5, sampler_gap_mean=0.2)) for i in range(1, 4)]
    assert len(said[-1]) == 1 and "other weights" in said[-1][0] and "0.200 nats" in said[-1][0]


def test_float16_passes_over_single_steps_and_stops_at_many():
    health, too_large = Health("float16"), {"grad_norm": math.inf}
    assert "step 1 was not made" in health.observe(step_log(1, **too_large))[0]
    assert health.observe(step_log(2)) == []
    health.replay([step_log(3, **too_large)])
    assert "overflowed" in health.observe(step_log(4, **too_large))[0]
    with pytest.raises(RunStopped, match="inf"):
        health.observe(step_log(5, **too_large))
    with pytest.raises(RunStopped, match="loss nan"):
        Health("float16").observe(step_log(1, **too_large, loss=math.nan))
    with pytest.raises(RunStopped, match="inf"):
        Health("bfloat16").observe(step_log(1, **too_large))


def test_the_mean_gap_is_in_the_log(cfg):
    run(cfg.change(n_minibatches=2, learning_rate=1e-2))
    rows = runlog.read_jsonl(Path(cfg.run_dir) / "metrics.jsonl")
    assert all(0 < row["sampler_gap_mean"] < row["sampler_gap"] < 1e-3 for row in rows)
    assert [row["sampler_gap_mean"] for row in rows[::2]] == [
        row["sampler_gap_mean"] for row in rows[1::2]
    ]


def test_a_real_run_warns_in_its_log_when_every_answer_is_cut_off(cfg, capfd):
    train(cfg.change(max_new_tokens=1, steps=3, n_problems=2, group_size=2), progress=False)
    rows = (Path(cfg.run_dir) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    warnings = json.loads(rows[-1]).get("warnings", [])
    assert any("cut off" in w or "same reward" in w for w in warnings)
    assert "warning: step 3" in "".join(capfd.readouterr())


def test_a_sampler_of_other_weights_is_noticed(cfg, monkeypatch):
    """Rollouts from stale weights are the bug that a peer shipped for months."""
    real = rollout.sample_parts

    def stale(policy, *args, **kwargs):
        kept = {k: v.clone() for k, v in policy.model.state_dict().items()}
        torch.manual_seed(0)
        with torch.no_grad():
            for p in policy.model.parameters():
                p.add_(0.05 * torch.randn_like(p))
        parts = list(real(policy, *args, **kwargs))
        policy.model.load_state_dict(kept)
        return parts

    healthy = run(cfg.change(run_dir=cfg.run_dir + "-healthy"))
    assert max(log.sampler_gap for log in healthy.logs) < 1e-4
    monkeypatch.setattr(rollout, "sample_parts", stale)
    assert min(log.sampler_gap for log in run(cfg).logs) > 1e-2
    assert "other weights" in (Path(cfg.run_dir) / "metrics.jsonl").read_text(encoding="utf-8")


def test_a_run_says_what_a_reader_needs_to_repeat_it(cfg):
    run(cfg.change(steps=3))
    facts = read_json(Path(cfg.run_dir) / "run.json")
    assert facts["config"] == cfg.change(steps=3).as_dict()
    assert preset("tiny").change(**facts["config"]) == cfg.change(steps=3)
    assert {"python", "torch", "transformers"} <= set(facts["versions"])
