"""Models built like published ones go through the whole way: sample, score, update, LoRA, merge,
save, evaluate; vLLM samples from those that it knows. Weights are random, so nothing is learned:
what is tested is that sampler and trainer mean the same model, and that answers are read right."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM
from zoo import ZOO, put

from r1lite.config import preset
from r1lite.evaluation import evaluate
from r1lite.learn import train
from r1lite.policy import load_policy, sample_groups, token_logps
from r1lite.records import UserError
from r1lite.world import make_problems

pytestmark = pytest.mark.deep
HERE = Path(__file__).resolve()
PATHS = os.pathsep.join([str(HERE.parents[2]), str(HERE.parents[1])])
AROUND = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": PATHS}  # of each process
IN_VLLM = ("Qwen2", "Qwen3", "Llama", "Mistral")


def varied(completions, completion_ids, **columns):
    """Differs between random answers, also between those that are cut off."""
    return [sum(ids) % 7 / 7 for ids in completion_ids]


def settings(folder: str, run_dir, **changes):
    manner = ZOO[Path(folder).name][0]
    template = "chat" if manner in ("chat", "distilled") else "r1-zero"
    return preset(
        "tiny", model=folder, template=template, device="cpu", n_problems=2, group_size=4,
        max_new_tokens=48, steps=2, learning_rate=1e-3, warmup_steps=0, beta=0.01,
        samples_every=1, run_dir=str(run_dir), **changes,
    )  # fmt: skip


@pytest.fixture(scope="module", params=ZOO)
def folder(request, tmp_path_factory) -> str:
    return put(tmp_path_factory.mktemp("zoo"), request.param)


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_the_whole_way(folder, tuning, tmp_path):
    cfg = settings(folder, tmp_path / "run", tuning=tuning)
    if tuning == "lora" and folder.endswith("Mamba"):
        with pytest.raises(UserError, match=r'a mamba model.*Set tuning="full"'):
            train(cfg, rewards=[varied], progress=False)
        return
    done = train(cfg, rewards=[varied], progress=False)
    gaps = [log.sampler_gap for log in done.logs]
    assert max(gaps) < 1e-3, "before an update sampler and trainer are the same model"
    assert min(log.grad_norm for log in done.logs) > 0
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "run/final").eval()
    again = load_policy(str(tmp_path / "run/final"), device="cpu")
    ids = torch.arange(5, 45).view(2, 20)
    with torch.no_grad():
        logps = [token_logps(model, ids) for model in (done.policy.model, plain, again.model)]
    torch.testing.assert_close(logps[0], logps[1], atol=1e-4, rtol=0)
    torch.testing.assert_close(logps[0], logps[2], atol=1e-4, rtol=0)
    report = evaluate(again, make_problems("countdown", "held_out", 2), cfg=cfg, k=2)
    assert report.n_problems == 2 and report.mean_tokens > 0


def test_answers_stop_where_the_model_stops(folder):
    """Every stop token ends an answer, is kept as its last token and is not in its text."""
    policy = load_policy(folder, device="cpu")
    with torch.no_grad():  # every token about as likely, so that all stops are written
        for parameter in policy.model.get_output_embeddings().parameters():
            parameter.mul_(0.01)
    problems = make_problems("countdown", "train", 4)
    groups = sample_groups(policy, problems, group_size=32, max_new_tokens=96, template="r1-zero")
    answers = [answer for group in groups for answer in group.completions]
    seen = {answer.token_ids[-1] for answer in answers if not answer.truncated}
    assert seen == set(policy.stop_ids)
    for answer in answers:
        assert answer.truncated == (answer.token_ids[-1] not in policy.stop_ids)
        assert not set(answer.token_ids[:-1]) & set(policy.stop_ids)
        assert "endoftext" not in answer.text and "im_end" not in answer.text


@pytest.mark.parametrize("architecture", IN_VLLM)
def test_vllm_samples_what_the_trainer_knows(architecture, tmp_path):
    """In a process of its own, as a process holds one engine; it proves a push at its start."""
    folder = put(tmp_path, architecture, hidden_size=128, head_dim=32)  # as its kernels want it
    done = subprocess.run(
        [sys.executable, str(HERE), folder, str(tmp_path / "run")], capture_output=True, text=True,
        timeout=300, env=AROUND,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-6000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["gap"] < 1e-3 and found["stops"]


def in_vllm(folder: str, run_dir: str) -> dict:
    cfg = settings(folder, run_dir, sampler="vllm", tuning="lora", engine_memory=0.1)
    done = train(cfg, rewards=[varied], progress=False)
    problems = make_problems("countdown", "train", 4)
    how = {"group_size": 8, "max_new_tokens": 64, "template": cfg.template}
    groups = sample_groups(done.policy, problems, **how)
    answers = [answer for group in groups for answer in group.completions]
    stops = set(done.policy.stop_ids)
    return {
        "gap": max(log.sampler_gap for log in done.logs),
        "stops": all(a.truncated == (a.token_ids[-1] not in stops) for a in answers)
        and not any(stops & set(a.token_ids[:-1]) for a in answers),
    }


if __name__ == "__main__":
    print(json.dumps(in_vllm(*sys.argv[1:])))
