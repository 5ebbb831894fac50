"""What every engine is held to, on one that stands in for vLLM; the real one is tried in deep."""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from r1lite.learn import train
from r1lite.policy import load_policy, sample_groups
from r1lite.policy.adapters import has_adapter, load_adapter, trainable
from r1lite.policy.load import Policy
from r1lite.policy.sample import write_answers
from r1lite.policy.vllm import exaggerated, with_vllm
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


HOW = {"dtype": "float32", "memory": 0.3, "lora_rank": 16}


@pytest.fixture(params=["full", "lora"])
def policy(request, vllm, mini_folder) -> Policy:
    plain = load_policy(mini_folder, device="cpu", tuning=request.param)
    return with_vllm(plain, mini_folder, **HOW)


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


def test_weights_that_moved_are_refused_until_they_are_pushed(policy, vllm):
    problems = make_problems("countdown", "train", 2)
    how = {"n_answers": 2, "max_new_tokens": 8}
    assert len(sample_groups(policy, problems, **how)) == 2
    shake(policy)
    with pytest.raises(UserError, match="older weights than the policy.*engine.update"):
        sample_groups(policy, problems, **how)
    pushed, resets = vllm[-1].pushes, vllm[-1].resets
    policy.engine.update(policy.model)
    assert (vllm[-1].pushes, vllm[-1].resets) == (pushed + 1, resets + 1)
    assert len(sample_groups(policy, problems, **how)) == 2 and policy.engine.gap() < 1e-4


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_an_engine_that_takes_nothing_over_never_rolls_out(tuning, vllm, mini_folder, monkeypatch):
    """What vLLM's reload_weights did on a CPU, and TRL's trainer for months with sleep on."""
    monkeypatch.setattr(Engine, "deaf", True)
    plain = load_policy(mini_folder, device="cpu", tuning=tuning)
    with pytest.raises(
        UserError, match='does not take over.*older|old weights. Set rollouts="own"'
    ):
        with_vllm(plain, mini_folder, **HOW)


def test_exaggeration_is_taken_back_after_an_error_too(mini):
    kept = {name: weight.clone() for name, weight in mini.model.state_dict().items()}
    with pytest.raises(ZeroDivisionError), exaggerated(mini.model):
        moved = mini.model.state_dict()
        assert not any(torch.equal(moved[k], v) for k, v in kept.items() if v.abs().sum() > 0)
        raise ZeroDivisionError
    assert all(torch.equal(mini.model.state_dict()[k], v) for k, v in kept.items())


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_training_rolls_out_from_the_weights_of_now(cfg, tuning, vllm):
    """Steps as large as these would leave stale answers far from the trainer."""
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


def test_a_missing_vllm_names_the_way_out(cfg, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UserError, match='requirements-gpu.txt.*rollouts="own"'):
        train(cfg.change(rollouts="vllm"), progress=False)


def test_a_base_in_4_bits_is_refused(mini, mini_folder, vllm):
    mini.model.is_quantized = True
    with pytest.raises(UserError, match='tuning="qlora".*rounded ones.*tuning="lora"'):
        with_vllm(mini, mini_folder, **HOW)
    assert not vllm, "before an engine is made"
