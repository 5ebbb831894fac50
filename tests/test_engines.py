"""What every engine is held to, on one that stands in for vLLM; the real one is tried in deep."""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import pytest
import torch
from safetensors.torch import load_file

from r1lite.config import RunConfig
from r1lite.learn import train
from r1lite.policy import load_policy, sample_groups
from r1lite.policy.adapters import has_adapter, load_adapter, trainable
from r1lite.policy.engines import with_vllm
from r1lite.policy.load import Policy
from r1lite.policy.sample import write_answers
from r1lite.policy.vllm import exaggerated
from r1lite.records import UserError
from r1lite.world import make_problems


class Engine:
    """Answers from weights of its own, which only the calls that vLLM has for that can change."""

    deaf = False  # takes every push without an error, and nothing over

    def __init__(self, folder, enable_lora=False, max_lora_rank=16, **more):
        how = {"tuning": "lora", "lora_rank": max_lora_rank} if enable_lora else {}
        self.policy = load_policy(folder, device="cpu", **how)
        self.pushes, self.resets = 0, 0
        config = SimpleNamespace(max_model_len=self.policy.max_length)
        core = SimpleNamespace(shutdown=lambda: None)
        self.llm_engine = SimpleNamespace(
            model_config=config, engine_core=core, add_lora=self._add_lora
        )

    def collective_rpc(self, method, kwargs):
        assert method == "reload_weights" and kwargs["is_checkpoint_format"]
        weights = {name: weight.clone() for name, weight in kwargs["weights_iterator"]}
        self.pushes += 1
        if not self.deaf:
            self.policy.model.load_state_dict(weights)

    def _add_lora(self, request):
        assert request.load_inplace
        self.pushes += 1
        if not self.deaf:
            load_adapter(self.policy.model, Path(request.path))

    def reset_prefix_cache(self):
        self.resets += 1

    def generate(self, inputs, how, use_tqdm, lora_request=None):
        has = bool(lora_request)
        assert has == (self.policy.model._hf_peft_config_loaded if has else False)
        requests = []
        for request, params in zip(inputs, how, strict=True):
            written = write_answers(
                self.policy, [request["prompt_token_ids"]], [(params.seed,)], params.n,
                params.max_tokens, params.temperature, params.top_p,
            )  # fmt: skip
            requests.append(
                SimpleNamespace(
                    outputs=[
                        SimpleNamespace(
                            token_ids=list(r.token_ids),
                            logprobs=[
                                {t: SimpleNamespace(logprob=logp)}
                                for t, logp in zip(r.token_ids, r.logps)
                            ],
                        )
                        for r in written
                    ]
                )
            )
        return requests


@pytest.fixture
def vllm(monkeypatch):
    """The engines that are made, in place of vLLM's."""
    made = []

    def llm(*args, **kwargs):
        made.append(Engine(*args, **kwargs))
        return made[-1]

    def request(name, number, path, load_inplace=False):
        return SimpleNamespace(name=name, path=path, load_inplace=load_inplace)

    for name, content in {
        "vllm": {"LLM": llm, "SamplingParams": SimpleNamespace},
        "vllm.lora": {},
        "vllm.lora.request": {"LoRARequest": request},
    }.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return made


class Asked(BaseHTTPRequestHandler):
    """The requests of vLLM's server that are made of it, answered by an Engine."""

    engine: Engine
    names: ClassVar[set[str]] = set()
    paths: ClassVar[list[str]] = []

    def log_message(self, *args):
        pass

    def _say(self, value, status=200):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        length = self.engine.policy.max_length
        self._say({"data": [{"id": "policy", "max_model_len": length}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.paths.append(self.path)
        try:
            self._say(getattr(self, self.path.split("/")[-1])(**body))
        except Exception as error:
            self._say({"error": str(error)}, 400)

    def load_lora_adapter(self, lora_name, lora_path):
        assert lora_name not in self.names, "keys and values are kept by name"
        self.names.add(lora_name)
        self.engine._add_lora(SimpleNamespace(path=lora_path, load_inplace=True))
        return "added"

    def unload_lora_adapter(self, lora_name):
        self.names.remove(lora_name)
        return "removed"

    def collective_rpc(self, method, kwargs):
        weights = load_file(Path(kwargs["weights_path"]) / "model.safetensors")
        assert (Path(kwargs["weights_path"]) / "config.json").exists()
        how = {"weights_iterator": weights.items(), "is_checkpoint_format": True}
        self.engine.collective_rpc(method, how)
        return {"results": [None]}

    def reset_prefix_cache(self, **how):
        self.engine.reset_prefix_cache()
        return {"success": True}

    def completions(self, model, prompt, seed, return_token_ids, **how):
        assert return_token_ids and model in {"policy", *self.names}
        params = SimpleNamespace(seed=seed, **how)
        with LOCK:
            request = self.engine.generate(
                [{"prompt_token_ids": prompt}], [params], False, model != "policy"
            )[0]
        choices = [
            {
                "index": i,
                "token_ids": answer.token_ids,
                "logprobs": {
                    "token_logprobs": [
                        row[t].logprob for t, row in zip(answer.token_ids, answer.logprobs)
                    ]
                },
            }
            for i, answer in enumerate(request.outputs)
        ]
        return {"choices": choices[::-1]}


LOCK = threading.Lock()


@pytest.fixture
def served(mini_folder):
    """Starts a server for a policy that is tuned so; returns its address."""
    servers = []

    def start(tuning: str) -> str:
        Asked.engine = Engine(mini_folder, enable_lora=tuning == "lora")
        Asked.names, Asked.paths = set(), []
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Asked))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/"

    yield start
    for server in servers:
        server.shutdown()


KINDS = [(tuning, where) for tuning in ("full", "lora") for where in ("here", "server")]


@pytest.fixture(params=KINDS, ids="-".join)
def policy(request, vllm, served, mini_folder, tmp_path) -> Policy:
    tuning, where = request.param
    plain = load_policy(mini_folder, device="cpu", tuning=tuning)
    url = served(tuning) if where == "server" else ""
    made = with_vllm(plain, RunConfig(model=mini_folder, engine_url=url, run_dir=str(tmp_path)))
    made.engine.stand_in = Asked.engine if url else vllm[-1]
    return made


def shake(policy):
    with torch.no_grad():
        for weight in trainable(policy.model).values():
            weight.add_(0.1 * torch.randn_like(weight))


def test_at_the_start_a_push_is_proved_and_nothing_is_left_of_it(policy, mini_folder):
    before, after = policy.engine.prove()
    assert before > 0.1 and after < 1e-4
    tuning = "lora" if has_adapter(policy.model) else "full"
    fresh = load_policy(mini_folder, device="cpu", tuning=tuning).model.state_dict()
    mine = policy.model.state_dict()
    assert all(torch.equal(mine[name], weight) for name, weight in fresh.items())
    policy.engine.update(policy.model)
    assert policy.engine.gap() < 1e-4


def test_weights_that_moved_are_refused_until_they_are_pushed(policy):
    problems = make_problems("countdown", "train", 2)
    how = {"n_answers": 2, "max_new_tokens": 8}
    assert len(sample_groups(policy, problems, **how)) == 2
    shake(policy)
    with pytest.raises(UserError, match="older weights than the policy.*engine.update"):
        sample_groups(policy, problems, **how)
    engine = policy.engine.stand_in
    pushed, resets = engine.pushes, engine.resets
    policy.engine.update(policy.model)
    assert engine.pushes == pushed + 1
    renamed = has_adapter(policy.model) and hasattr(policy.engine, "url")
    assert renamed or engine.resets == resets + 1, "keys and values of the old weights"
    assert len(sample_groups(policy, problems, **how)) == 2 and policy.engine.gap() < 1e-4


@pytest.mark.parametrize(("tuning", "where"), KINDS)
def test_an_engine_that_takes_nothing_over_never_rolls_out(
    tuning, where, vllm, served, mini_folder, tmp_path, monkeypatch
):
    """What vLLM's reload_weights did on a CPU, and TRL's trainer for months with sleep on."""
    monkeypatch.setattr(Engine, "deaf", True)
    url = served(tuning) if where == "server" else ""
    plain = load_policy(mini_folder, device="cpu", tuning=tuning)
    cfg = RunConfig(model=mini_folder, engine_url=url, run_dir=str(tmp_path))
    with pytest.raises(UserError, match='does not take over.*old weights. Set rollouts="own"'):
        with_vllm(plain, cfg)


def test_exaggeration_is_taken_back_after_an_error_too(mini):
    kept = {name: weight.clone() for name, weight in mini.model.state_dict().items()}
    with pytest.raises(ZeroDivisionError), exaggerated(mini.model):
        moved = mini.model.state_dict()
        assert not any(torch.equal(moved[k], v) for k, v in kept.items() if v.abs().sum() > 0)
        raise ZeroDivisionError
    assert all(torch.equal(mini.model.state_dict()[k], v) for k, v in kept.items())


@pytest.mark.parametrize(("tuning", "where"), KINDS)
def test_training_rolls_out_from_the_weights_of_now(cfg, tuning, where, vllm, served):
    """Steps as large as these would leave stale answers far from the trainer."""
    if where == "server":
        cfg = cfg.change(engine_url=served(tuning))
    changes = {"rollouts": "vllm", "tuning": tuning, "importance_cap": 2.0, "steps": 4}
    result = train(cfg.change(**changes, learning_rate=0.02, warmup_steps=0), progress=False,
                   rewards=_lengths())  # fmt: skip
    assert all(log.sampler_gap < 1e-3 and log.grad_norm > 0 for log in result.logs)
    rows = (Path(cfg.run_dir) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert all(json.loads(row)["seconds"]["sync"] > 0 for row in rows)
    assert result.policy.engine.gap() < 1e-3, "it can be evaluated at once"


def _lengths():
    def even(prompts, completions, **columns):
        return [len(text.split()) % 3 / 2 for text in completions]

    return {"accuracy": even, "format": even}


def test_a_push_that_gets_lost_later_is_in_the_log(cfg, vllm, monkeypatch):
    """The proof at the start holds for then; that it goes on holding, every step's gap shows."""
    real = Engine.collective_rpc

    def loses(self, method, kwargs):
        self.deaf = self.pushes > 3
        real(self, method, kwargs)

    monkeypatch.setattr(Engine, "collective_rpc", loses)
    changes = {"rollouts": "vllm", "learning_rate": 0.02, "warmup_steps": 0}
    result = train(cfg.change(**changes), rewards=_lengths(), progress=False)
    assert result.logs[0].sampler_gap < 1e-3 and result.logs[-1].sampler_gap > 1e-2
    assert "other weights" in (Path(cfg.run_dir) / "metrics.jsonl").read_text(encoding="utf-8")


def test_a_server_is_asked_for_no_package_and_keeps_one_adapter(cfg, served, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    changes = {"rollouts": "vllm", "engine_url": served("lora"), "tuning": "lora", "steps": 3}
    result = train(cfg.change(**changes), rewards=_lengths(), progress=False)
    assert Asked.names == {result.policy.engine.name}
    assert Asked.paths.count("/v1/load_lora_adapter") == 2 + 3 + 1 + 1, "proof, rollouts, the end"
    assert Asked.paths.count("/v1/unload_lora_adapter") == 6


def test_a_server_writes_what_an_engine_here_writes(vllm, served, mini_folder, tmp_path):
    problems = make_problems("countdown", "train", 3)
    texts = []
    for url in ("", served("full")):
        cfg = RunConfig(model=mini_folder, engine_url=url, run_dir=str(tmp_path))
        made = with_vllm(load_policy(mini_folder, device="cpu"), cfg)
        groups = sample_groups(made, problems, n_answers=3, max_new_tokens=12, temperature=0.8)
        texts.append([(r.token_ids, r.truncated) for group in groups for r in group.rollouts])
    assert texts[0] == texts[1] and len(texts[0]) == 9


def test_where_no_server_answers_the_way_to_start_one_is_named(cfg, served):
    with pytest.raises(UserError, match="engine_url='http://127.0.0.1:9'.*vllm serve MODEL"):
        train(cfg.change(rollouts="vllm", engine_url="http://127.0.0.1:9"), progress=False)
    with pytest.raises(UserError, match="nonsense"):
        train(cfg.change(rollouts="vllm", engine_url="nonsense"), progress=False)
    Asked.load_lora_adapter, kept = None, Asked.load_lora_adapter  # as without --enable-lora
    try:
        changes = {"rollouts": "vllm", "engine_url": served("lora"), "tuning": "lora"}
        with pytest.raises(UserError, match="/v1/load_lora_adapter.*not callable.*--enable-lora"):
            train(cfg.change(**changes), progress=False)
    finally:
        Asked.load_lora_adapter = kept


def test_a_missing_vllm_names_the_way_out(cfg, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UserError, match='requirements-gpu.txt.*rollouts="own"'):
        train(cfg.change(rollouts="vllm"), progress=False)


def test_a_base_in_4_bits_is_refused(mini, mini_folder, vllm):
    mini.model.is_quantized = True
    with pytest.raises(UserError, match='tuning="qlora".*rounded ones.*tuning="lora"'):
        with_vllm(mini, RunConfig(model=mini_folder))
    assert not vllm, "before an engine is made"
