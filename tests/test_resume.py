"""Stopped at any moment and resumed is never stopped, bit for bit: weights, optimizer, log."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import VARIED, without_seconds

from r1lite.config import SftConfig, TrainingConfig
from r1lite.learn import Result, grpo, interrupt, rollout, train, train_sft
from r1lite.learn import run as harness
from r1lite.policy import load_policy
from r1lite.stages import gate

REPO = Path(__file__).resolve().parents[1]
TESTS = Path(__file__).resolve().parent

# Both branches of the loop: one update a rollout, and stale mini-batches with a moving reference.
SETTINGS = {
    "plain": {},
    "KL penalty": {
        "beta": 0.05,
        "reference_every": 3,
        "n_minibatches": 2,
        "inner_epochs": 2,
        "clip_epsilon": 0.2,
        "steps": 16,
        "checkpoint_every": 4,
    },
    "r1-printed": {
        "objective": "r1-printed",
        "temperature": 0.8,
        "beta": 0.01,
        "reference_every": 4,
    },
}


TEXTS = [
    {"prompt": f"User : make {n} from 6 4 3 . Assistant :", "completion": f"<think> {n} </think>"}
    for n in range(1, 30)
]


def run(cfg: TrainingConfig, on_step=None) -> Result:
    """A run of the loop that the settings are for: GRPO, or supervised."""
    if isinstance(cfg, SftConfig):
        return train_sft(cfg, TEXTS, progress=False, on_step=on_step)
    return train(cfg, rewards=VARIED, progress=False, on_step=on_step)


def same_state(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same_state(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same_state, a, b))
    return a == b


def rows_of(path: Path) -> list[dict]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return without_seconds(map(json.loads, lines))


def assert_same_run(one: str, other: str) -> None:
    """Final weights, the last checkpoint and every row of both logs."""
    a, b = Path(one), Path(other)
    last = sorted(a.glob("checkpoint-*"))[-1].name
    assert last == sorted(b.glob("checkpoint-*"))[-1].name
    for name in ("final/model.safetensors", f"{last}/model.safetensors"):
        assert (a / name).read_bytes() == (b / name).read_bytes(), name
    for name in ("optimizer.pt", "reference.pt"):
        assert (a / last / name).exists() == (b / last / name).exists()
        if (a / last / name).exists():
            states = [torch.load(folder / last / name, weights_only=True) for folder in (a, b)]
            assert same_state(*states), name
    for name in ("metrics.jsonl", "rollouts.jsonl"):
        assert rows_of(a / name) == rows_of(b / name), name
    assert not list(b.glob("*.tmp"))


@pytest.mark.parametrize("name", SETTINGS)
def test_half_a_run_resumed_is_the_whole_run(cfg, tmp_path, name):
    cfg = cfg.change(**SETTINGS[name])
    straight, halves = cfg, cfg.change(run_dir=str(tmp_path / "halves"))
    whole = run(straight)
    assert not any(torch.isnan(p).any() for p in whole.policy.model.parameters())
    assert max(log.grad_norm for log in whole.logs) > 0
    first = run(halves.change(steps=cfg.steps // 2))
    second = run(halves)
    assert [log.step for log in second.logs] == list(range(1, cfg.steps + 1))
    assert without_seconds(second.logs) == without_seconds(whole.logs)
    assert second.logs[: len(first.logs)] == first.logs
    assert_same_run(straight.run_dir, halves.run_dir)


def test_where_checkpoints_fall_does_not_change_a_run(cfg, tmp_path):
    often = cfg.change(run_dir=str(tmp_path / "often"), checkpoint_every=1)
    run(cfg)
    run(often)
    assert_same_run(cfg.run_dir, often.run_dir)
    assert len(list(Path(often.run_dir).glob("checkpoint-*"))) == 2


def test_another_seed_is_another_run(cfg, tmp_path):
    """Else the comparisons above would hold for a run that learns nothing."""
    other = cfg.change(run_dir=str(tmp_path / "other"), seed=1)
    assert without_seconds(run(cfg).logs) != without_seconds(run(other).logs)
    weights = [(Path(c.run_dir) / "final" / "model.safetensors").read_bytes() for c in (cfg, other)]
    assert weights[0] != weights[1]


def test_a_finished_run_called_again_stays_as_it_is(cfg, tmp_path):
    run(cfg)
    before = (Path(cfg.run_dir) / "final" / "model.safetensors").read_bytes()
    rows = (Path(cfg.run_dir) / "metrics.jsonl").read_text(encoding="utf-8")
    assert [log.step for log in run(cfg).logs] == list(range(1, cfg.steps + 1))
    assert (Path(cfg.run_dir) / "final" / "model.safetensors").read_bytes() == before
    assert (Path(cfg.run_dir) / "metrics.jsonl").read_text(encoding="utf-8") == rows


PHASES = {
    "sample_parts": rollout, "backward": grpo, "append_jsonl": harness, "save_checkpoint": harness,
}  # fmt: skip


@pytest.mark.parametrize("where", PHASES)
def test_an_error_in_any_phase_loses_nothing(cfg, tmp_path, monkeypatch, where):
    broken = cfg.change(run_dir=str(tmp_path / "broken"), checkpoint_every=2)
    run(cfg)
    module = PHASES[where]
    real, calls = getattr(module, where), []

    def fails_once(*args, **kwargs):
        calls.append(1)
        if len(calls) == (2 if where == "save_checkpoint" else 4):
            raise RuntimeError("power cut")
        return real(*args, **kwargs)

    monkeypatch.setattr(module, where, fails_once)
    with pytest.raises(RuntimeError, match="power cut"):
        run(broken)
    run(broken)
    assert_same_run(cfg.run_dir, broken.run_dir)


SCRIPT = """
import json, sys
sys.path[:0] = {paths}
from r1lite.config import RunConfig, SftConfig
from test_resume import run
cfg = {kind}(**json.loads(sys.argv[1]))
result = run(cfg, on_step=lambda log: print(log.step, flush=True))
print("interrupted" if result.interrupted else "done", flush=True)
"""


def start(cfg: TrainingConfig, log: Path) -> subprocess.Popen:
    """The run in a process of its own; returns once its first step is done."""
    script = SCRIPT.format(paths=[str(REPO), str(TESTS)], kind=type(cfg).__name__)
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", script, json.dumps(cfg.as_dict())],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=REPO,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
    assert process.stdout.readline().strip().isdigit(), log.read_text()
    return process


@pytest.fixture(params=["grpo", "sft"])
def long_cfg(cfg, request) -> TrainingConfig:
    """Both loops: they run on one harness, and one test holds it to its word."""
    if request.param == "sft":
        return SftConfig(
            model=cfg.model, device="cpu", steps=120, batch_size=8, learning_rate=3e-3,
            schedule="cosine", warmup_steps=4, checkpoint_every=4, run_dir=cfg.run_dir,
        )  # fmt: skip
    return cfg.change(**SETTINGS["KL penalty"]).change(steps=120, samples_every=4)


def test_kill_9_at_random_moments(long_cfg, tmp_path):
    """One run killed again and again, while it samples, learns, logs and saves."""
    killed = long_cfg.change(run_dir=str(tmp_path / "killed"))
    run(long_cfg)
    rng, metrics = random.Random(), Path(killed.run_dir) / "metrics.jsonl"
    reached = []
    for i in range(4):
        process = start(killed, tmp_path / f"kill-{i}.log")
        assert metrics.exists()
        time.sleep(rng.uniform(0.0, 0.5))
        process.kill()
        ended_by = process.wait(timeout=30)
        if i and ended_by == 0:
            break  # a fast machine: it finished first
        assert ended_by == -signal.SIGKILL
        reached.append(len(metrics.read_text(encoding="utf-8").splitlines()))
    assert reached[0] < 120
    run(killed)
    assert_same_run(long_cfg.run_dir, killed.run_dir)


def test_warnings_of_a_resumed_run_are_those_of_a_whole_one(cfg, tmp_path):
    """A symptom is named after three steps, also if the run was stopped in between."""
    nothing = {name: lambda prompts, completions, **c: [0.0] * len(completions) for name in VARIED}
    cfg = cfg.change(max_new_tokens=80)  # so that some answers end by themselves
    whole, halves = cfg, cfg.change(run_dir=str(tmp_path / "halves"))
    train(whole, rewards=nothing, progress=False)
    for steps in (2, 5, 6):
        train(halves.change(steps=steps), rewards=nothing, progress=False)
    rows = rows_of(Path(whole.run_dir) / "metrics.jsonl")
    assert ["warnings" in row for row in rows] == [False, False, True, False, False, False]
    assert rows == rows_of(Path(halves.run_dir) / "metrics.jsonl")


def test_what_a_kill_leaves_half_saved_is_cleared_away(cfg, tmp_path):
    """Else every kill in mid-save costs the disk one checkpoint, for ever."""
    killed = cfg.change(run_dir=str(tmp_path / "killed"))
    run(cfg)
    run(killed.change(steps=3))
    half = Path(killed.run_dir) / ".checkpoint-000005.12345678.tmp"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    (Path(killed.run_dir) / ".metrics.jsonl.12345678.tmp").write_text("half")
    run(killed)
    assert_same_run(cfg.run_dir, killed.run_dir)


def test_a_half_written_line_is_dropped(cfg, tmp_path):
    cut = cfg.change(run_dir=str(tmp_path / "cut"))
    run(cfg)
    run(cut.change(steps=3))
    for name in ("metrics.jsonl", "rollouts.jsonl"):
        with (Path(cut.run_dir) / name).open("a") as handle:
            handle.write('{"step": 4, "loss": 0.1}\n{"step": 5, "lo')
    run(cut)
    assert_same_run(cfg.run_dir, cut.run_dir)


def test_ctrl_c_finishes_the_step_saves_and_goes_on_later(long_cfg, tmp_path):
    stopped = long_cfg.change(run_dir=str(tmp_path / "stopped"), checkpoint_every=1000)
    process = start(stopped, tmp_path / "sigint.log")
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    complaint = (tmp_path / "sigint.log").read_text()
    assert process.returncode == 0, complaint
    assert said.split()[-1] == "interrupted"
    assert "press Ctrl-C again" in complaint and "Traceback" not in complaint
    saved = sorted(Path(stopped.run_dir).glob("checkpoint-*"))
    step = int(saved[-1].name.split("-")[1])
    assert len(saved) == 1 and 0 < step < 120
    assert step == rows_of(Path(stopped.run_dir) / "metrics.jsonl")[-1]["step"]
    assert not (Path(stopped.run_dir) / "final").exists()
    run(long_cfg)
    run(stopped)
    assert_same_run(long_cfg.run_dir, stopped.run_dir)


def test_ctrl_c_in_a_notebook_is_not_an_error(cfg):
    """The same in this process: the first SIGINT is polite, and the old handler comes back."""
    before = signal.getsignal(signal.SIGINT)
    result = train(
        cfg,
        rewards=VARIED,
        progress=False,
        on_step=lambda log: log.step == 2 and signal.raise_signal(signal.SIGINT),
    )
    assert result.interrupted and [log.step for log in result.logs] == [1, 2]
    assert signal.getsignal(signal.SIGINT) is before
    assert (Path(cfg.run_dir) / "checkpoint-000002").exists()


def test_a_step_is_logged_before_it_is_told(cfg):
    """Who watches a run may read its log at every step, and a kill there loses no row."""
    rows = []

    def watch(log):
        text = (Path(cfg.run_dir) / "metrics.jsonl").read_text(encoding="utf-8")
        rows.append(json.loads(text.splitlines()[-1])["step"])

    result = train(cfg, rewards=VARIED, progress=False, on_step=watch)
    assert rows == [log.step for log in result.logs]


def test_a_second_ctrl_c_stops_at_once(cfg, monkeypatch):
    monkeypatch.setattr(interrupt, "ONE_PRESS", -1.0)  # the two below come in the same second
    before = signal.getsignal(signal.SIGINT)

    def impatient(log):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(cfg, rewards=VARIED, progress=False, on_step=impatient)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_ctrl_c_that_comes_twice_within_a_second_is_one(cfg):
    def echo(log):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    result = train(cfg, rewards=VARIED, progress=False, on_step=echo)
    assert result.interrupted and (Path(cfg.run_dir) / "checkpoint-000001").exists()


def test_a_stopped_gate_writes_no_verdict(mini_folder, tmp_path, monkeypatch):
    def stopped(cfg):
        return Result(load_policy(mini_folder), [], tmp_path, interrupted=True)

    monkeypatch.setattr(gate, "train", stopped)
    monkeypatch.setattr(gate, "search_report", lambda policy: {})
    monkeypatch.setattr(gate, "base_rates", lambda policy, family, cfg: {"pass_at_1": 0.1})
    with pytest.raises(KeyboardInterrupt):
        gate.run_gate(str(mini_folder), tmp_path / "gate", families=("countdown",))
    assert not list(tmp_path.glob("gate/*.json"))
