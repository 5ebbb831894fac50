"""How a program ends: Ctrl-C, SIGTERM, no memory, a missing package; exit status and one line."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import VARIED

from r1lite import __main__ as command_line
from r1lite.learn import interrupt, rollout, train
from r1lite.learn.health import lacks_memory
from r1lite.records import UserError

REPO = Path(__file__).resolve().parents[1]


def line(*words: str) -> list[str]:
    return [sys.executable, "-m", "r1lite", *words]


def start(words: list[str], run_dir: Path) -> subprocess.Popen:
    """A run on the command line; returns once its first step is logged."""
    process = subprocess.Popen(
        line(*words, "--run-dir", str(run_dir), "--checkpoint-every", "100000"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(REPO)},
    )
    log, deadline = run_dir / "metrics.jsonl", time.monotonic() + 120
    while not log.exists() or not log.read_text():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.05)
    return process


@pytest.fixture(params=["zero", "sft"])
def words(request, mini_folder, tmp_path) -> list[str]:
    how = ["--model", mini_folder, "--steps", "100000", "--device", "cpu"]
    if request.param == "sft":
        data = tmp_path / "rows.jsonl"
        data.write_text('{"text": "make 6 from 6 4 3 ."}\n')
        return ["sft", "--data", str(data), *how]
    few = ["--n-problems", "2", "--group-size", "2", "--max-new-tokens", "16"]
    return ["zero", *how, *few, "--eval-every", "100000"]


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_asked_to_end_saves_and_says_what_is_there(words, tmp_path, number, status):
    run_dir = tmp_path / "run"
    process = start(words, run_dir)
    process.send_signal(number)
    told, said = process.communicate(timeout=60)
    assert process.returncode == status and "Traceback" not in said, said
    (saved,) = run_dir.glob("checkpoint-*")
    assert (saved / "state.json").exists() and not (run_dir / "final").exists()
    assert "model:" not in told, "no final model is promised"
    if number == signal.SIGINT:
        assert f"stopped after step {int(saved.name[11:])}" in said and saved.name in said


@pytest.mark.parametrize("package", ["tyro", "torch", "transformers"])
def test_ctrl_c_during_an_import_ends_quietly(package, tmp_path):
    (tmp_path / f"{package}.py").write_text("import os\nos.kill(os.getpid(), 2)\n")
    done = subprocess.run(
        line("zero", "--steps", "1", "--run-dir", str(tmp_path / "run")),
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(REPO)])},
    )
    assert done.returncode == 130 and "Traceback" not in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1 and "stopped" in done.stderr


def test_sigterm_in_a_program_of_ones_own_ends_it_after_saving(cfg):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        train(
            cfg,
            rewards=VARIED,
            progress=False,
            on_step=lambda log: log.step == 2 and signal.raise_signal(signal.SIGTERM),
        )
    assert ended.value.code == 143 and signal.getsignal(signal.SIGTERM) is before
    assert (Path(cfg.run_dir) / "checkpoint-000002").exists()
    assert len(train(cfg, rewards=VARIED, progress=False).logs) == cfg.steps


def test_a_second_sigterm_ends_at_once(monkeypatch):
    monkeypatch.setattr(interrupt, "ONE_PRESS", -1.0)
    with pytest.raises(SystemExit) as ended, interrupt.GracefulInterrupt():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
    assert ended.value.code == 143


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_a_fork_of_a_run_dies_of_sigterm_as_any_process():
    ready, begun = os.pipe()
    with interrupt.GracefulInterrupt():
        child = os.fork()
        if not child:
            os.write(begun, b"1")  # Python forgets what comes while it forks
            time.sleep(30)
            os._exit(0)
        os.read(ready, 1)
        os.kill(child, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 143


FULL = {
    "Python's": MemoryError(),
    "a GPU's": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    "a CPU's": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    "a CPU's elsewhere": RuntimeError("DefaultCPUAllocator: not enough memory: you tried to"),
}


@pytest.mark.parametrize("whose", FULL)
def test_no_memory_left_is_one_line_with_what_to_lower(cfg, monkeypatch, capsys, whose):
    def full(*args, **kwargs):
        raise FULL[whose]

    monkeypatch.setattr(rollout, "sample_parts", full)
    monkeypatch.setattr("r1lite.verbs.Plan.do", lambda asked: train(cfg, progress=False))
    assert command_line.main(["plan", "--memory", "8"]) == 2
    said = capsys.readouterr().err
    assert "no memory left" in said and "Lower micro_batch_tokens=" in said
    assert said.count("\n") == 1
    with pytest.raises(UserError, match="no memory left"):  # in a notebook as well
        train(cfg, progress=False)


def test_other_errors_stay_what_they_are(cfg, monkeypatch):
    assert not lacks_memory(UserError("out of memory is a word here"))
    monkeypatch.setattr(rollout, "sample_parts", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(cfg, progress=False)


def test_a_missing_package_is_one_line_with_the_next_step():
    """Python without site-packages, as a system's Python is."""
    done = subprocess.run(
        [sys.executable, "-S", "-m", "r1lite", "zero"], capture_output=True, text=True, cwd=REPO
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "is missing" in done.stderr and "make setup" in done.stderr


def test_an_old_python_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "version_info", (3, 9, 1))
    assert command_line.main(["zero"]) == 2
    assert "3.10 to 3.13" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--help"], ["zero", "--help"]])
def test_help_without_docstrings(words):
    """PYTHONOPTIMIZE=2 removes them, and assert."""
    said = [
        subprocess.run(
            [sys.executable, *how, "-m", "r1lite", *words], capture_output=True, text=True
        )
        for how in ([], ["-OO"])
    ]
    assert all("pure RL on a base" in done.stdout and not done.returncode for done in said)


def test_a_run_without_docstrings_is_refused_in_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-OO", "-m", "r1lite", "zero", "--run-dir", str(tmp_path / "run")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "PYTHONOPTIMIZE" in done.stderr and not (tmp_path / "run").exists()
