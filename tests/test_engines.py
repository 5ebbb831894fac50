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

from r1lite import dist
from r1lite.config import RunConfig
from r1lite.learn import grpo, models, train
from r1lite.learn import run as harness
from r1lite.policy import load_policy, sample_groups
from r1lite.policy import vllm as engine_file
from r1lite.policy.adapters import has_adapter, load_adapter, trainable, weight_of
from r1lite.policy.engine import Sampling
from r1lite.policy.load import REPO, Policy
from r1lite.policy.sample import sample_answers
from r1lite.policy.vllm import Vllm, perturbed
from r1lite.policy.vllm_server import START, with_vllm
from r1lite.records import UserError
from r1lite.world import make_problems


class Engine:
    """Answers from weights of its own, which only the calls that vLLM has for that can change."""

    deaf = False  # takes every push without an error, and nothing over

    def __init__(self, folder, enable_lora=False, max_lora_rank=16, **more):
        how = {"tuning": "lora", "lora_rank": max_lora_rank} if enable_lora else {}
        self.policy = load_policy(folder, device="cpu", **how)
        self.pushes, self.resets = 0, 0
        self.asked, self.calls, self.asleep = more, [], set()
        config = SimpleNamespace(max_model_len=self.policy.max_length)
        core = SimpleNamespace(shutdown=lambda: None)
        self.llm_engine = SimpleNamespace(
            model_config=config, engine_core=core, add_lora=self._add_lora
        )

    def sleep(self, level):
        self.calls.append(f"sleep {level}")
        self.asleep = {"weights", "kv_cache"}
        for weight in self.policy.model.parameters() if level == 2 else ():
            weight.data.fill_(float("nan"))  # level 1 keeps them elsewhere

    def wake_up(self, tags):
        self.calls.append(f"wake {' '.join(tags)}")
        assert self.asleep >= set(tags)
        self.asleep -= set(tags)

    def collective_rpc(self, method, kwargs):
        assert method == "reload_weights" and kwargs["is_checkpoint_format"]
        assert "weights" not in self.asleep
        self.calls.append("push")
        weights = {name: weight.clone() for name, weight in kwargs["weights_iterator"]}
        self.pushes += 1
        if not self.deaf:
            self.policy.model.load_state_dict(weights)

    def _add_lora(self, request):
        assert request.load_inplace and "weights" not in self.asleep
        self.calls.append("push")
        self.pushes += 1
        if not self.deaf:
            load_adapter(self.policy.model, Path(request.path))

    def reset_prefix_cache(self):
        self.calls.append("reset")
        self.resets += 1

    def generate(self, inputs, how, use_tqdm, lora_request=None):
        assert bool(lora_request) == has_adapter(self.policy.model) and not self.asleep
        self.calls.append("write")
        requests = []
        for request, params in zip(inputs, how, strict=True):
            sampling = Sampling(
                group_size=params.n, max_new_tokens=params.max_tokens, top_p=params.top_p,
                temperature=params.temperature,
            )  # fmt: skip
            prompts = [request["prompt_token_ids"]]
            written = sample_answers(self.policy, prompts, [(params.seed,)], sampling)
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
    before, after = policy.engine.verify_sync()
    assert before > 0.1 and after < 1e-4
    tuning = "lora" if has_adapter(policy.model) else "full"
    fresh = load_policy(mini_folder, device="cpu", tuning=tuning).model.state_dict()
    mine = policy.model.state_dict()
    assert all(torch.equal(mine[name], weight) for name, weight in fresh.items())
    policy.engine.update(policy.model)
    assert policy.engine.gap() < 1e-4


def test_weights_that_moved_are_refused_until_they_are_pushed(policy):
    problems = make_problems("countdown", "train", 2)
    how = {"group_size": 2, "max_new_tokens": 8}
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
    with pytest.raises(UserError, match='does not take over.*old weights. Set sampler="own"'):
        with_vllm(plain, cfg)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_exaggeration_is_moderate_and_of_each_weights_own_scale(mini_folder, tuning, dtype):
    """Weights that are some times as large make attention an argmax, and there a healthy engine in
    bfloat16 is as far from its trainer as one that took nothing over."""
    policy = load_policy(mini_folder, device="cpu", tuning=tuning, dtype=dtype)
    matrices = {n: m for n, m in policy.model.named_modules() if hasattr(m, "weight")}
    matrices = {name: m for name, m in matrices.items() if "lora" not in name}
    kept = {name: weight_of(m).clone().float() for name, m in matrices.items()}
    with perturbed(policy.model):
        for name, was in kept.items():
            off = (weight_of(matrices[name]).float() - was).norm() / was.norm()
            adapted = tuning == "full" or hasattr(matrices[name], "lora_A")
            assert 0.05 < off < 0.4 if adapted else off == 0, name
    assert all(torch.equal(weight_of(m).float(), kept[name]) for name, m in matrices.items())


def test_exaggeration_is_taken_back_where_a_forward_pass_puts_other_weights_in_place(mini):
    """FSDP2 leaves whole weights where shards were, until the next backward pass."""
    head, kept = mini.model.lm_head, mini.model.lm_head.weight.detach().clone()
    with perturbed(mini.model):
        shards = head.weight
        head.weight = torch.nn.Parameter(shards.detach().clone())
    assert torch.equal(shards, kept)


@pytest.mark.parametrize("tuning", ["full", "lora"])
@pytest.mark.parametrize("wide", [0.0, 0.01, 0.03])
def test_a_healthy_engine_that_rounds_otherwise_is_not_refused(vllm, mini_folder, tuning, wide):
    """In bfloat16 two healthy engines are hundredths of a nat apart, and a deaf one is more."""
    plain = load_policy(mini_folder, device="cpu", tuning=tuning, dtype="bfloat16")
    engine = with_vllm(plain, RunConfig(model=mini_folder, dtype="bfloat16"), prove=False).engine
    real, noise = engine._requests, torch.Generator().manual_seed(0)

    def rounds(*work):
        for ids, logps in real(*work):
            yield ids, [p + wide * torch.randn((), generator=noise).item() for p in logps]

    engine._requests = rounds
    before, after = engine.verify_sync()
    assert before > 5 * after
    vllm[-1].deaf = True
    with pytest.raises(UserError, match="does not take over"):
        engine.verify_sync()


def test_exaggeration_is_taken_back_after_an_error_too(mini):
    kept = {name: weight.clone() for name, weight in mini.model.state_dict().items()}
    with pytest.raises(ZeroDivisionError), perturbed(mini.model):
        moved = mini.model.state_dict()
        assert not any(torch.equal(moved[k], v) for k, v in kept.items() if v.abs().sum() > 0)
        raise ZeroDivisionError
    assert all(torch.equal(mini.model.state_dict()[k], v) for k, v in kept.items())


@pytest.mark.parametrize(("tuning", "where"), KINDS)
def test_training_rolls_out_from_the_weights_of_now(cfg, tuning, where, vllm, served):
    """Steps as large as these would leave stale answers far from the trainer."""
    if where == "server":
        cfg = cfg.change(engine_url=served(tuning))
    changes = {"sampler": "vllm", "tuning": tuning, "importance_cap": 2.0, "steps": 4}
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
    changes = {"sampler": "vllm", "learning_rate": 0.02, "warmup_steps": 0}
    result = train(cfg.change(**changes), rewards=_lengths(), progress=False)
    assert result.logs[0].sampler_gap < 1e-3 and result.logs[-1].sampler_gap > 1e-2
    assert "other weights" in (Path(cfg.run_dir) / "metrics.jsonl").read_text(encoding="utf-8")


def test_a_server_is_asked_for_no_package_and_keeps_one_adapter(cfg, served, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    changes = {"sampler": "vllm", "engine_url": served("lora"), "tuning": "lora", "steps": 3}
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
        groups = sample_groups(made, problems, group_size=3, max_new_tokens=12, temperature=0.8)
        texts.append([(r.token_ids, r.truncated) for group in groups for r in group.completions])
    assert texts[0] == texts[1] and len(texts[0]) == 9


def test_where_no_server_answers_the_way_to_start_one_is_named(cfg, served):
    with pytest.raises(UserError, match="engine_url='http://127.0.0.1:9'.*vllm serve MODEL"):
        train(cfg.change(sampler="vllm", engine_url="http://127.0.0.1:9"), progress=False)
    with pytest.raises(UserError, match="nonsense"):
        train(cfg.change(sampler="vllm", engine_url="nonsense"), progress=False)
    Asked.load_lora_adapter, kept = None, Asked.load_lora_adapter  # as without --enable-lora
    try:
        changes = {"sampler": "vllm", "engine_url": served("lora"), "tuning": "lora"}
        with pytest.raises(UserError, match="/v1/load_lora_adapter.*not callable.*--enable-lora"):
            train(cfg.change(**changes), progress=False)
    finally:
        Asked.load_lora_adapter = kept


def test_a_missing_vllm_names_the_way_out(cfg, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UserError, match='requirements-gpu.txt.*sampler="own"'):
        train(cfg.change(sampler="vllm"), progress=False)


def test_a_base_in_4_bits_is_refused(mini, mini_folder, vllm):
    mini.model.is_quantized = True
    with pytest.raises(UserError, match='tuning="qlora".*rounded ones.*tuning="lora"'):
        with_vllm(mini, RunConfig(model=mini_folder))
    assert not vllm, "before an engine is made"


@pytest.fixture
def group(monkeypatch):
    """vLLM alone in a program makes a process group, which is there from then on."""
    real = Engine.__init__

    def starts(self, *args, **kwargs):
        real(self, *args, **kwargs)
        if not torch.distributed.is_initialized():
            store = torch.distributed.HashStore()
            torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)

    monkeypatch.setattr(Engine, "__init__", starts)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_a_group_that_the_engine_makes_for_itself_is_no_torchrun(
    cfg, vllm, group, tuning, monkeypatch
):
    loaded = []
    real = models.load_weights
    monkeypatch.setattr(models, "load_weights", lambda *a: loaded.append(a) or real(*a))
    changes = {"sampler": "vllm", "tuning": tuning, "beta": 0.1, "steps": 2}
    result = train(cfg.change(**changes), rewards=_lengths(), progress=False)
    assert torch.distributed.is_initialized() and not dist.is_distributed()
    assert len(loaded) == 1, "the reference is a copy, or the adapter switched off"
    assert result.logs[-1].kl is not None and result.policy.engine is not None
    again = cfg.change(**changes, run_dir=cfg.run_dir + "-again")
    train(again, rewards=_lengths(), progress=False)
    assert "distributed_executor_backend" not in vllm[-1].asked


SLEEPERS = [("full", False, 2), ("full", True, 1), ("lora", False, 1)]


@pytest.mark.parametrize(("tuning", "dynamic", "level"), SLEEPERS)
def test_it_sleeps_while_the_trainer_needs_the_memory(
    cfg, vllm, tuning, dynamic, level, monkeypatch
):
    """Also when the policy is kept at the end; what level 2 forgets, the next push brings back."""
    policy = SimpleNamespace(model=load_policy(cfg.model, device="cpu", tuning=tuning).model)
    policy.device = torch.device("cuda")
    on_gpu = Vllm(policy, cfg.change(tuning=tuning, dynamic_sampling=dynamic))
    assert vllm[-1].asked["enable_sleep_mode"] and on_gpu._level == level
    real = Vllm.__init__

    def made(self, *args):
        real(self, *args)
        self._level = level

    def noted(word, function):
        return lambda *a, **k: (vllm[-1].calls.append(word), function(*a, **k))[1]

    monkeypatch.setattr(Vllm, "__init__", made)
    monkeypatch.setattr(torch.cuda, "empty_cache", noted("empty", lambda: None))
    monkeypatch.setattr(grpo, "backward", noted("update", grpo.backward))
    monkeypatch.setattr(harness, "save_policy", noted("save_policy", harness.save_policy))
    changes = {"sampler": "vllm", "tuning": tuning, "dynamic_sampling": dynamic, "steps": 2}
    result = train(cfg.change(**changes), rewards=_lengths(), progress=False)
    wakes = ["empty", "wake weights", "push", "reset", "empty", "wake kv_cache"]
    rollout = ["write", f"sleep {level}", "update"]
    calls, engine = vllm[-1].calls, result.policy.engine
    assert calls[:8] == ["push", "reset", "write", f"sleep {level}", *wakes[:4]], "the proof"
    end = [*rollout, "save_policy", *wakes]
    assert calls[-len(end) :] == end
    if dynamic:  # it writes more than once, and keeps its weights for that
        assert calls.count("push") == 2 + 1 + 2 + 1 < calls.count("write")
        assert "wake weights kv_cache" in calls
    else:
        assert calls[-len(end + wakes + rollout) :] == [*rollout, *wakes, *end]
    assert all(log.sampler_gap < 1e-3 for log in result.logs)
    for _ in range(2):  # nobody has to push in between
        groups = sample_groups(
            result.policy, make_problems("countdown", "train", 1), group_size=2, max_new_tokens=8
        )
        assert all(logp == logp for r in groups[0].completions for logp in r.logps)
    assert engine._asleep and vllm[-1].asleep


def test_each_weight_travels_once_and_in_the_engines_type(mini, monkeypatch):
    """Of three processes, here one after the other: shards as FSDP2 cuts them, in buckets."""
    whole = mini.model.state_dict()
    messages = []

    class Cut(torch.Tensor):
        def to_local(self):
            return whole_piece(self.as_subclass(torch.Tensor), Cut.rank)

    def whole_piece(weight, rank):
        pieces = weight.chunk(3)
        return pieces[rank] if rank < len(pieces) else weight[:0]

    state = {name: weight.as_subclass(Cut) for name, weight in whole.items()}
    state["odd"] = torch.arange(1.0, 8.0).view(7, 1).as_subclass(Cut)
    state["counter"] = torch.tensor(3)
    model = SimpleNamespace(state_dict=lambda: state)
    Cut.rank, sent = 0, []
    monkeypatch.setattr(dist, "world_size", lambda: 3)
    monkeypatch.setattr(engine_file, "BUCKET", 8000)

    def send(mine):
        sent[-1].append(mine)
        return torch.stack([mine] * 3)

    monkeypatch.setattr(dist, "all_gather_tensor", send)
    for Cut.rank in range(3):
        sent.append([])
        list(engine_file.named_weights(model, torch.bfloat16))
    assert len(sent[0]) == len(sent[1]) == len(sent[2]) > 3
    assert max(len(m) * 3 * 2 for m in sent[0]) < 8000 + max(w.nbytes for w in whole.values())
    assert all(m.dtype == torch.bfloat16 for m in sent[0])
    messages = iter(zip(*sent))
    monkeypatch.setattr(dist, "all_gather_tensor", lambda mine: torch.stack(next(messages)))
    found = list(engine_file.named_weights(model, torch.bfloat16))
    assert sorted(name for name, _ in found) == sorted(state), "each once"
    for name, weight in found:
        expected = state[name]
        assert weight.shape == expected.shape and weight.is_floating_point() == (name != "counter")
        expected = expected.to(weight.dtype).as_subclass(torch.Tensor)
        assert torch.equal(weight.as_subclass(torch.Tensor), expected), name


def test_a_server_is_asked_for_neutral_settings(served, mini_folder, tmp_path, monkeypatch):
    """Instruct models name penalties of their own, which a server would take for ours."""
    seen = []
    real = Asked.completions
    monkeypatch.setattr(Asked, "completions", lambda self, **b: seen.append(b) or real(self, **b))
    cfg = RunConfig(model=mini_folder, engine_url=served("full"), run_dir=str(tmp_path))
    with_vllm(load_policy(mini_folder, device="cpu"), cfg)
    for body in seen:
        assert body["repetition_penalty"] == 1 and body["min_p"] == 0 and body["top_k"] == -1
        assert body["presence_penalty"] == body["frequency_penalty"] == 0
    assert seen and "--generation-config vllm" in START
    page = (REPO / "notebooks/RUN_ON_YOUR_GPU.md").read_text(encoding="utf-8")
    assert "--generation-config vllm" in page


def test_no_code_that_a_model_names_is_run(vllm, mini, mini_folder):
    with_vllm(mini, RunConfig(model=mini_folder), prove=False)
    assert not vllm[-1].asked.get("trust_remote_code")
