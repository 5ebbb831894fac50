"""vLLM's CPU build serves the tiny base: pushes arrive, and an engine that is not current refuses.

Each scenario runs this file as a program of its own, as a process holds one engine.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

pytestmark = pytest.mark.deep
HERE = Path(__file__).resolve()
REPO = HERE.parents[2]
BASE = str(REPO / "data" / "tiny-base")
PATHS = os.pathsep.join([str(REPO), str(REPO / "tests")])
AROUND = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": PATHS}  # of each process


def run(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=400, env=AROUND
    )
    assert done.returncode == 0, done.stderr[-12000:]
    return done.stdout


def scenario(name: str) -> dict:
    return json.loads(run(str(HERE), name).strip().splitlines()[-1])


@pytest.fixture(scope="module")
def found() -> dict[str, dict]:
    return {tuning: scenario(tuning) for tuning in ("full", "lora")}


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_a_push_arrives_after_an_exaggerated_update(found, tuning):
    """The weight-version test: sampled from old weights it fails, by nats."""
    assert found[tuning]["fresh"] < 1e-4
    assert found[tuning]["before"] > 1.0
    assert found[tuning]["after"] < 1e-4
    assert found[tuning]["moved"] == 0.0  # the policy is left as it was
    assert found[tuning]["back"] < 1e-4


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_old_weights_are_refused(found, tuning):
    assert found[tuning]["refused"].startswith("vLLM holds older weights than the policy")
    assert found[tuning]["after_update"] < 1e-4


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_an_engine_that_takes_nothing_over_is_refused(found, tuning):
    assert found[tuning]["deaf"].startswith("vLLM does not take over new weights here")


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_answers_are_as_the_own_loop_describes_them(found, tuning):
    answers = found[tuning]["answers"]
    assert answers["keyed"], "an answer depends on what else is sampled"
    assert answers["gap"] < 1e-4, "log-probabilities are those of softmax(logits / 0.7)"
    assert answers["stops"] and answers["cuts"] and answers["texts"]
    assert abs(answers["length"] - answers["own_length"]) < 8, answers  # tokens, of about 50
    assert answers["distinct"] > 1


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_keys_and_values_of_old_weights_are_noticed(found, tuning):
    """Without the reset of its prefix cache the engine reads the prompt with the old weights."""
    assert found[tuning]["cached"]
    assert found[tuning]["stale"].startswith("vLLM does not take over new weights here")


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_in_bfloat16_rounding_is_told_from_old_weights(tuning):
    said = scenario(f"{tuning} bfloat16")
    assert said["after"] < said["before"] / 5
    assert said["moved"] == 0.0 and said["after"] < 0.1
    assert said["deaf"].startswith("vLLM does not take over new weights here")
    assert said["stale"].startswith("vLLM does not take over new weights here")


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_one_process_with_a_kl_penalty_and_another_run_after_it(tuning):
    """vLLM makes a process group of one: that is no torchrun, and no second model is loaded."""
    said = scenario(f"{tuning} KL penalty")
    assert said["alone"] == [True] * 4 and said["loaded"] == 2, "one model a run"
    assert all(row["kl"] is not None and row["sampler_gap"] < 1e-3 for row in said["rows"])
    assert len(said["rows"]) == 4 and said["rows"][1]["kl"] > 0


def test_a_compiled_engine_is_refused_or_current():
    """Compiled for a CPU it holds packed weights; should it once take them over, the better."""
    said = scenario("compiled")
    assert said["refused"].startswith("vLLM does not take over") or said["after"] < 1e-3


def test_a_context_is_cut_to_what_there_is_room_for():
    """vLLM would refuse a model whose context its memory cannot hold, or cut answers in silence."""
    said = scenario("room")
    assert 1000 < said["length"] < 1_000_000
    assert f"engine_memory has room for) of {said['length']}. Lower max_new" in said["refused"]


@pytest.fixture(scope="module", params=["full", "lora"])
def served(request, tmp_path_factory):
    """vLLM's own server, started as its users are told to: (tuning, address)."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    said = (tmp_path_factory.mktemp("server") / "said").open("w+")
    around = AROUND | {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", "VLLM_SERVER_DEV_MODE": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
    }  # fmt: skip
    lora = ["--enable-lora", "--max-lora-rank", "16"] if request.param == "lora" else []
    server = subprocess.Popen(
        [
            sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", BASE,
            "--trust-remote-code", "--logprobs-mode", "processed_logprobs", "--dtype", "float32",
            "--enforce-eager", "--host", "127.0.0.1", "--port", str(port), *lora,
        ],
        env=around, stdout=said, stderr=subprocess.STDOUT,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            time.sleep(1)
            assert server.poll() is None, Path(said.name).read_text()[-4000:]
            with contextlib.suppress(OSError), urlopen(url + "/health"):
                break
        yield request.param, url
    finally:
        server.terminate()
        server.wait(60)


@pytest.mark.parametrize("n", [0, 2])
def test_a_server_gets_the_weights_of_now(served, n, tmp_path):
    """Proved at the start, and seen in every step; its answers are those of an engine here."""
    tuning, url = served
    many = ["torch.distributed.run", "--standalone", f"--nproc-per-node={n}", "-m"] if n else []
    run(
        "-m", *many, "r1lite", "zero", "--sampler", "vllm", "--engine-url", url, "--device", "cpu",
        "--tuning", tuning, "--importance-cap", "2", "--n-problems", "6", "--group-size", "4",
        "--steps", "3", "--max-new-tokens", "48", "--run-dir", str(tmp_path / "run"),
        "--learning-rate", {"full": "5e-4", "lora": "1e-2"}[tuning], "--warmup-steps", "0",
    )  # fmt: skip
    rows = logs(tmp_path / "run")
    assert len(rows) == 3 and all(row["sampler_gap"] < 1e-3 for row in rows)
    assert any(row["grad_norm"] > 0 for row in rows)
    assert rows[0]["entropy"] != rows[-1]["entropy"]


def logs(run_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_training_with_vllm_is_the_same_in_two_processes(tuning, tmp_path):
    """Steps as large as these would leave stale answers nats away from the trainer."""
    rows = []
    for n in (0, 2):
        many = ["torch.distributed.run", "--standalone", f"--nproc-per-node={n}", "-m"]
        run(
            "-m", *(many if n else []), "r1lite", "zero", "--sampler", "vllm", "--device", "cpu",
            "--tuning", tuning, "--importance-cap", "2", "--n-problems", "6", "--group-size", "4",
            "--steps", "3", "--max-new-tokens", "48", "--run-dir", str(tmp_path / str(n)),
            "--learning-rate", {"full": "5e-4", "lora": "1e-2"}[tuning], "--warmup-steps", "0",
        )  # fmt: skip
        rows.append(logs(tmp_path / str(n)))
        assert (tmp_path / str(n) / "final" / "model.safetensors").exists()
    for row, other in zip(*rows, strict=True):
        assert row["sampler_gap"] < 1e-3 and other["sampler_gap"] < 1e-3
        assert row["reward"] == other["reward"] and row["length"] == other["length"]
        assert row["loss"] == pytest.approx(other["loss"], abs=1e-5)
        assert row["grad_norm"] == pytest.approx(other["grad_norm"], abs=1e-4)
    assert any(row["grad_norm"] > 0 for row in rows[0])
    assert rows[0][0]["entropy"] != rows[0][-1]["entropy"]


def _answers(policy, problems) -> dict:
    import torch

    from r1lite.policy import sample_groups
    from r1lite.policy.logprobs import token_logps

    how = {"group_size": 4, "max_new_tokens": 96, "temperature": 0.7, "seed": 3}
    groups, alone = (
        sample_groups(policy, problems, **how),
        sample_groups(policy, problems[2:3], **how),
    )
    own = sample_groups(
        type(policy)(policy.model, policy.tokenizer, policy.max_length), problems, **how
    )
    rollouts = [completion for group in groups for completion in group.completions]
    gap = 0.0
    for group in groups:
        for completion in group.completions:
            tokens = torch.tensor([[*group.prompt_ids, *completion.token_ids]])
            with torch.no_grad():
                logps = token_logps(policy.model, tokens, temperature=0.7)[0]
            logps = logps[len(group.prompt_ids) - 1 :]
            gap = max(gap, (logps - torch.tensor(completion.logps)).abs().max().item())

    def length(groups) -> float:
        lengths = [len(r.token_ids) for g in groups for r in g.completions]
        return sum(lengths) / len(lengths)

    return {
        "keyed": [r.token_ids for r in alone[0].completions]
        == [r.token_ids for r in groups[2].completions],
        "gap": gap,
        "stops": all((r.token_ids[-1] == policy.stop_id) != r.truncated for r in rollouts)
        and all(policy.stop_id not in r.token_ids[:-1] for r in rollouts),
        "cuts": any(r.truncated and len(r.token_ids) == 96 for r in rollouts),
        "texts": all(policy.decode(r.token_ids) == r.text for r in rollouts),
        "length": length(groups),
        "own_length": length(own),
        "distinct": len({r.token_ids for r in groups[0].completions}),
    }


def _room() -> dict:
    """A context of a million tokens at 2 KiB each, in one GiB."""
    import tempfile

    import transformers
    from speed.gpu import random_model

    from r1lite.config import RunConfig
    from r1lite.policy import load_policy, sample_groups
    from r1lite.policy.vllm_server import with_vllm
    from r1lite.records import UserError
    from r1lite.world import make_problems

    with tempfile.TemporaryDirectory() as shape:
        transformers.Qwen2Config(
            vocab_size=2000, hidden_size=64, intermediate_size=64, num_hidden_layers=4,
            num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=1_000_000,
        ).save_pretrained(shape)  # fmt: skip
        with random_model(shape, "cpu", "float32") as base:
            policy = with_vllm(load_policy(base, device="cpu"), RunConfig(model=base))
    problems = make_problems("countdown", "train", 2)
    sample_groups(policy, problems, group_size=2, max_new_tokens=20)
    try:
        sample_groups(policy, problems, group_size=2, max_new_tokens=policy.max_length)
    except UserError as error:
        return {"length": policy.max_length, "refused": str(error)}
    return {"length": policy.max_length, "refused": ""}


def _proof(engine) -> str:
    from r1lite.records import UserError

    try:
        engine.verify_sync()
    except UserError as error:
        return str(error)
    return "not noticed"


def _kl_penalty(tuning: str) -> dict:
    import tempfile

    import torch

    from r1lite import dist
    from r1lite.config import RunConfig
    from r1lite.learn import models, train

    loaded, real = [], models.load_weights
    models.load_weights = lambda *a: loaded.append(a) or real(*a)
    rows, group = [], []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            train(
                RunConfig(
                    device="cpu", tuning=tuning, sampler="vllm", beta=0.05, steps=2, n_problems=4,
                    group_size=4, max_new_tokens=32, learning_rate=1e-3, warmup_steps=0,
                    run_dir=folder,
                ),
                progress=False,
                on_step=lambda log: group.append(
                    torch.distributed.is_initialized() and not dist.is_distributed()
                ),
            )  # fmt: skip
            rows += logs(Path(folder))
    return {"rows": rows, "loaded": len(loaded), "alone": group}


def _program(name: str) -> dict:
    import torch

    from r1lite.config import RunConfig
    from r1lite.policy import load_policy, sample_groups
    from r1lite.policy.adapters import trainable
    from r1lite.policy.vllm_server import with_vllm
    from r1lite.records import UserError
    from r1lite.world import make_problems

    if name == "room":
        return _room()
    tuning, _, how = name.partition(" ")
    if how == "KL penalty":
        return _kl_penalty(tuning)
    tuned = {"tuning": "lora" if tuning == "lora" else "full", "dtype": how or "float32"}
    policy = load_policy(BASE, device="cpu", **tuned)
    if name == "compiled":
        import vllm

        real = vllm.LLM
        vllm.LLM = lambda *a, **k: real(*a, **k | {"enforce_eager": False})
    policy = with_vllm(policy, RunConfig(**tuned), prove=False)
    engine, model, said = policy.engine, policy.model, {"refused": ""}
    kept = {key: value.clone() for key, value in model.state_dict().items()}
    said["fresh"] = engine.gap()
    try:
        said["before"], said["after"] = engine.verify_sync()
    except UserError as error:
        said["refused"] = str(error)
    if name == "compiled":
        return said
    now = model.state_dict()
    said["moved"] = max((now[key] - value).abs().max().item() for key, value in kept.items())
    engine.update(model)
    said["back"] = engine.gap()
    said["cached"] = engine.llm.llm_engine.vllm_config.cache_config.enable_prefix_caching
    reset, engine.llm.reset_prefix_cache = engine.llm.reset_prefix_cache, lambda: True
    said["stale"] = _proof(engine)
    engine.llm.reset_prefix_cache = reset
    engine.update(model)
    problems = make_problems("countdown", "train", 16)
    said["answers"] = _answers(policy, problems)
    with torch.no_grad():
        for weight in trainable(model).values():
            weight.add_(0.05 * torch.randn_like(weight))
    try:
        sample_groups(policy, problems, group_size=2, max_new_tokens=8)
    except UserError as error:
        said["refused"] = str(error)
    engine.update(model)
    said["after_update"] = engine.gap()
    engine.llm.collective_rpc = lambda *a, **k: None  # a push that does nothing, without an error
    engine.llm.llm_engine.add_lora = lambda *a, **k: True
    said["deaf"] = _proof(engine)
    return said


if __name__ == "__main__":
    print(json.dumps(_program(sys.argv[1])))
