"""Answers sampled by one process a core: the same ones, by the weights of now, whatever happens."""

import dataclasses
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from conftest import VARIED
from test_adapters import lora, shake  # noqa: F401 (a fixture)
from test_sampling import tokens

from r1lite import fast
from r1lite.fast import workers
from r1lite.fast.decoder import FusedSampler
from r1lite.fast.optimizations import disabled, is_enabled
from r1lite.fast.workers import Workers
from r1lite.learn import train
from r1lite.policy import sample_groups
from r1lite.runlog import read_jsonl
from r1lite.world import make_problems

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is not used")
PROBLEMS = make_problems("countdown", "train", 5)


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    monkeypatch.setattr(workers, "ROWS_EACH", 1)
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def draw(policy, **changes):
    how = {"group_size": 3, "max_new_tokens": 40, "seed": 1} | changes
    return sample_groups(policy, PROBLEMS, **how)


def others() -> list[int]:
    return [process.pid for process in multiprocessing.active_children()]


def gone(pid: int, seconds: float = 20) -> bool:
    """Whether a process ends in time; one that waits to be fetched has ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False


def test_the_same_answers_by_the_weights_of_now(mini, monkeypatch):
    mine, real = [], FusedSampler.generate
    monkeypatch.setattr(
        FusedSampler, "generate", lambda self, *work: mine.append(work) or real(self, *work)
    )
    before = draw(mini)
    with fast.sampling(mini, 64) as writer:
        for _ in range(2):
            expected, found = draw(mini), draw(writer)
            assert tokens(found) == tokens(expected)
            assert [g.problem for g in found] == PROBLEMS
            for a, b in zip(expected, found, strict=True):
                assert a.prompt_ids == b.prompt_ids
                for x, y in zip(a.completions, b.completions, strict=True):
                    assert (x.text, x.truncated) == (y.text, y.truncated)
                    assert x.logps == pytest.approx(y.logps, abs=1e-5)
            with torch.no_grad():
                for p in mini.model.parameters():
                    p.mul_(1.3)
        assert tokens(found) != tokens(before)
        assert torch.get_num_threads() == 2
    assert [len(prompts) for prompts, *_ in mine] == [3, 3]  # of five; the others elsewhere
    assert all(gone(pid) for pid in others())


def test_of_an_adapter_its_weights_are_sent(lora, monkeypatch):  # noqa: F811
    sent = []
    with fast.sampling(lora, 64) as writer:
        submit = writer.engine.pool.submit
        monkeypatch.setattr(
            writer.engine.pool, "submit", lambda f, *work: sent.append(work[0]) or submit(f, *work)
        )
        shake(lora)
        assert tokens(draw(writer)) == tokens(draw(lora))
    whole = sum(p.numel() for p in lora.model.parameters())
    assert 0 < sum(x.size for x in sent[0]) < whole / 2


def test_one_that_is_killed_is_done_without_and_ctrl_c_is_not_for_it(mini):
    expected = tokens(draw(mini))
    with fast.sampling(mini, 64) as writer:
        assert tokens(draw(writer)) == expected
        (pid,) = others()
        os.kill(pid, signal.SIGINT)
        time.sleep(0.2)
        assert tokens(draw(writer)) == expected and writer.engine.n == 2
        os.kill(pid, signal.SIGKILL)
        for _ in range(2):
            assert tokens(draw(writer)) == expected and torch.get_num_threads() == 2
        assert writer.engine.n == 1


def test_an_error_over_there_is_told_here(mini, monkeypatch):
    here = os.getpid()
    real = FusedSampler.generate

    def fails(self, *work):
        if os.getpid() != here:
            raise ZeroDivisionError("over there")
        return real(self, *work)

    monkeypatch.setattr(FusedSampler, "generate", fails)
    with fast.sampling(mini, 64) as writer, pytest.raises(ZeroDivisionError, match="over there"):
        draw(writer)
    assert torch.get_num_threads() == 2


def test_what_is_switched_off_is_off_over_there(mini, monkeypatch):
    monkeypatch.setattr(workers, "_sampler", FusedSampler(mini), raising=False)
    switches = "fused_decoding", "packed_training"
    monkeypatch.setattr(FusedSampler, "generate", lambda *_: tuple(map(is_enabled, switches)))
    weights = [p.detach().numpy() + 1 for p in mini.model.parameters()]
    assert workers._work(weights, ["fused_decoding"], ()) == (False, True)
    for p, weight in zip(mini.model.parameters(), weights):
        assert torch.equal(p, torch.from_numpy(weight))


def test_it_is_used_only_where_it_is_worth_it(mini, monkeypatch):
    def used(policy=mini, n_rows=64) -> bool:
        with fast.sampling(policy, n_rows) as writer:
            return isinstance(writer.engine, Workers)

    assert used()
    assert not used(n_rows=1)
    assert not used(dataclasses.replace(mini, engine=object()))
    for name, value in (("MOST_WEIGHTS", 1), ("ROWS_EACH", 33)):
        with monkeypatch.context() as context:
            context.setattr(workers, name, value)
            assert not used()
    with monkeypatch.context() as context:
        context.setattr(workers.dist, "is_distributed", lambda: True)
        assert not used()
    with monkeypatch.context() as context:
        context.setattr(workers.sys, "platform", "darwin")
        assert not used()
    torch.set_num_threads(1)
    assert not used()


def test_more_threads_than_prompts(mini):
    torch.set_num_threads(8)
    with fast.sampling(mini, 64) as writer:
        assert writer.engine.n == 8
        assert tokens(draw(writer)) == tokens(draw(mini))


def test_a_run_is_the_same_with_and_without(cfg, tmp_path):
    def run(name):
        train(cfg.change(run_dir=str(tmp_path / name)), rewards=VARIED, progress=False)
        return read_jsonl(tmp_path / name / "metrics.jsonl")

    found = run("many")
    with disabled("workers"):
        expected = run("alone")
    for a, b in zip(found, expected, strict=True):
        for name in ("reward", "length", "entropy", "grad_norm", "sampler_gap"):
            assert a[name] == pytest.approx(b[name], abs=1e-4), name


def test_they_end_with_this_process(mini_folder):
    code = (
        "import multiprocessing, os, signal, torch\n"
        "from r1lite import fast\n"
        "from r1lite.fast import workers\n"
        "from r1lite.policy import load_policy, sample_groups\n"
        "from r1lite.world import make_problems\n"
        "torch.set_num_threads(3)\n"
        "workers.ROWS_EACH = 1\n"
        f"policy = load_policy({mini_folder!r}, device='cpu')\n"
        "with fast.sampling(policy, 64) as writer:\n"
        "    problems = make_problems('countdown', 'train', 4)\n"
        "    sample_groups(writer, problems, group_size=2, max_new_tokens=8)\n"
        "    print(*(p.pid for p in multiprocessing.active_children()), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    pids = [int(pid) for pid in done.stdout.split()]
    assert done.returncode == -signal.SIGKILL and len(pids) == 2, done.stderr
    assert all(gone(pid) for pid in pids)
