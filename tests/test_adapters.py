"""LoRA: off it is the base, merged it is itself, and the loop treats it like any policy."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import VARIED, update
from test_batching import SETTINGS, RecordingOptimizer, assert_same, exact, rows  # noqa: F401
from test_resume import assert_same_run
from test_sampling import draw, problems, tokens  # noqa: F401

from r1lite import fast
from r1lite.fast.fused import supports_fused
from r1lite.learn import train
from r1lite.learn.batching import Row
from r1lite.learn.objective import grpo_loss
from r1lite.learn.optimizer import make_optimizer
from r1lite.learn.update import backward, reference_kl
from r1lite.policy import adapters, load_policy, token_logps
from r1lite.policy.adapters import Reference, merged, trainable, weight_of
from r1lite.policy.load import Policy, save_policy
from r1lite.records import UserError

IDS = torch.arange(3, 43).view(4, 10)


@pytest.fixture
def lora(mini_folder) -> Policy:
    return load_policy(mini_folder, device="cpu", tuning="lora", lora_rank=4, lora_alpha=8.0)


def shake(policy: Policy, by: float = 0.3) -> None:
    """Move the adapter far from its start, where it does nothing."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in trainable(policy.model).values():
            parameter.add_(by * torch.randn_like(parameter))


def scores(model) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def test_at_the_start_it_is_the_base_and_only_it_is_trained(lora, mini):
    assert torch.equal(scores(lora.model), scores(mini.model))
    names = trainable(lora.model)
    assert names and all("lora_" in name for name in names)
    # by hand: rank 4 times (in + out) of q, k, v, o, gate, up, down in each of two layers
    sizes = [(32, 32), (32, 16), (32, 16), (32, 32), (32, 64), (32, 64), (64, 32)]
    assert sum(p.numel() for p in names.values()) == 2 * 4 * sum(a + b for a, b in sizes)


def test_its_start_is_decided_by_the_seed_alone(mini_folder):
    def start(seed):
        torch.rand(3)
        policy = load_policy(mini_folder, device="cpu", tuning="lora", seed=seed)
        return torch.cat([p.detach().flatten() for p in trainable(policy.model).values()])

    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert torch.equal(start(1), start(1)) and not torch.equal(start(1), start(2))
    torch.set_rng_state(before)


def test_an_adapter_beside_bfloat16_weights_is_float32(mini_folder):
    policy = load_policy(mini_folder, device="cpu", dtype="bfloat16", tuning="lora")
    assert policy.model.dtype == torch.bfloat16
    assert {p.dtype for p in trainable(policy.model).values()} == {torch.float32}
    assert scores(policy.model).dtype == torch.bfloat16


def test_float16_keeps_gradients_that_would_vanish(mini_folder, monkeypatch):
    """A token's share of the gradient is near float16's smallest number, so it travels enlarged;
    compared with the same weights, rounded to float16 but computed with in float32."""
    settings = SETTINGS.change(tuning="lora", clip_epsilon=1e6)

    def gradient(dtype):
        policy = load_policy(mini_folder, device="cpu", dtype=dtype, tuning="lora", lora_rank=4)
        for p in policy.model.parameters() if dtype == "float32" else ():
            p.data = p.data if p.requires_grad else p.data.half().float()
        made = [
            Row([5, 9, 12], [20 + i, 33, 41, 7 + i] * 30, [-5.0] * 120, (-1.0) ** i)
            for i in range(16)
        ]
        optimizer = RecordingOptimizer(policy.model)
        update(policy, made, optimizer, settings.change(dtype=dtype), step=1)
        named = zip(policy.model.named_parameters(), optimizer.gradient, strict=True)
        return torch.cat([g.flatten() for (name, _), g in named if "lora_" in name])

    half, whole = gradient("float16"), gradient("float32")
    assert half.dtype == torch.float32 and whole.norm() > 1e-4
    off = (half - whole).norm() / whole.norm()
    assert off < 0.02
    monkeypatch.setattr("r1lite.learn.update.loss_scale", lambda policy, cfg, n_tokens: 1.0)
    assert (gradient("float16") - whole).norm() / whole.norm() > 3 * off


def test_whole_weights_in_float16_are_refused():
    with pytest.raises(UserError, match="do not feel small"):
        SETTINGS.change(dtype="float16")


def test_merged_is_unmerged_and_an_ordinary_folder(lora, tmp_path):
    from transformers import AutoModelForCausalLM

    shake(lora)
    expected = scores(lora.model)
    save_policy(replace(lora, model=merged(lora.model)), tmp_path / "plain")
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "plain")
    assert not [name for name in found.state_dict() if "lora" in name]
    torch.testing.assert_close(scores(found), expected, atol=2e-5, rtol=1e-5)
    assert torch.equal(scores(lora.model), expected), "merging is done on a copy"
    base = load_policy(lora.model.name_or_path, device="cpu").model
    assert (scores(found) - scores(base)).abs().max() > 0.1


def draw_fused(policy, problems):  # noqa: F811
    with fast.sampling(policy, 1) as sampler:
        return draw(sampler, problems)


def test_the_fused_decoder_multiplies_the_adapter_in(lora, problems):  # noqa: F811
    shake(lora)
    assert supports_fused(lora.model)
    fused = draw_fused(lora, problems)
    assert tokens(fused) == tokens(draw(lora, problems))
    lora.model.disable_adapters()
    assert tokens(draw_fused(lora, problems)) != tokens(fused)
    q_proj = lora.model.model.layers[0].self_attn.q_proj
    assert weight_of(q_proj) is q_proj.base_layer.weight


def test_the_sampler_has_the_trainers_log_probabilities(lora, problems):  # noqa: F811
    shake(lora)
    for group in draw(lora, problems):
        for answer in group.completions:
            ids = torch.tensor([[*group.prompt_ids, *answer.token_ids]])
            with torch.no_grad():
                logps = token_logps(lora.model, ids)[0, len(group.prompt_ids) - 1 :]
            torch.testing.assert_close(logps, torch.tensor(answer.logps), atol=2e-5, rtol=0)


def test_the_reference_of_an_adapter_needs_no_second_model(lora, mini):
    reference = Reference(lora.model)
    shake(lora)
    now = scores(lora.model)
    with reference.as_model() as model:
        assert model is lora.model and torch.equal(scores(model), scores(mini.model))
    assert torch.equal(scores(lora.model), now)
    reference.update_from(lora.model)
    shake(lora, by=0.5)
    later = scores(lora.model)
    with reference.as_model() as model:
        assert torch.equal(scores(model), now)
    assert torch.equal(scores(lora.model), later) and not torch.equal(later, now)
    again = Reference(lora.model)
    again.load_state_dict(reference.state_dict())
    with again.as_model() as model:
        assert torch.equal(scores(model), now)


def test_an_error_inside_leaves_the_policy_as_it_was(lora):
    shake(lora)
    now, reference = scores(lora.model), Reference(lora.model)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), reference.as_model():
            raise ZeroDivisionError
        assert torch.equal(scores(lora.model), now)
        assert len(trainable(lora.model)) == 28
        reference.update_from(lora.model)


def test_a_gradient_with_a_kl_penalty_is_that_with_a_frozen_copy(mini_folder, rows):  # noqa: F811
    policy = load_policy(mini_folder, device="cpu", tuning="lora", lora_rank=4)
    policy = replace(policy, model=policy.model.double())
    shake(policy)
    base = Policy(load_policy(mini_folder, device="cpu").model.double(), *_rest(policy))
    cfg = SETTINGS.change(beta=0.3, micro_batch_tokens=60)
    found = []
    for reference in (Reference(policy.model), Reference(base.model)):
        optimizer = RecordingOptimizer(policy.model)
        update(policy, rows, optimizer, cfg, step=1, reference=reference)
        found.append(optimizer.gradient)
    assert max(g.abs().max() for g in found[0]) > 1e-3
    assert_same(found[0], found[1])


@pytest.mark.parametrize("moved", [False, True])
def test_weights_are_not_switched_while_the_policy_has_a_graph(lora, rows, moved, monkeypatch):  # noqa: F811
    """Many micro-batches, one switch to the reference, and that before the first forward pass."""
    reference, entered, real = Reference(lora.model), [], Reference.as_model
    if moved:
        reference.update_from(lora.model)
    shake(lora)
    monkeypatch.setattr(Reference, "as_model", lambda r: entered.append("switch") or real(r))
    cfg = SETTINGS.change(beta=0.3, micro_batch_tokens=1)

    def noted(logps, batch, cfg):
        entered.append("loss")
        return grpo_loss(logps, batch, cfg)

    backward(lora, rows, cfg, reference, noted)
    assert entered == ["switch", *["loss"] * len(rows)] and len(rows) > 3
    assert all(p.grad is not None for p in trainable(lora.model).values())


def _rest(policy: Policy):
    return policy.tokenizer, policy.max_length


def test_a_kl_penalty_in_the_reward_switches_the_adapter_too(lora, mini, problems):  # noqa: F811
    reference = Reference(lora.model)
    groups = draw(lora, problems)
    cfg = SETTINGS.change(beta=1.0, kl_placement="reward")
    assert reference_kl(groups, cfg, lora, reference).abs().max() < 1e-4
    shake(lora)
    groups = draw(lora, problems)
    found = reference_kl(groups, cfg, lora, reference)
    torch.testing.assert_close(found, reference_kl(groups, cfg, lora, Reference(mini.model)))
    assert found.mean() > 1


def test_half_a_run_resumed_is_the_whole_run(cfg, tmp_path):
    cfg = cfg.change(tuning="lora", lora_rank=4, beta=0.05, reference_every=2)
    whole = train(cfg, rewards=VARIED, progress=False)
    halves = cfg.change(run_dir=str(tmp_path / "halves"))
    train(halves.change(steps=3), rewards=VARIED, progress=False)
    train(halves, rewards=VARIED, progress=False)
    last = sorted(Path(cfg.run_dir).glob("checkpoint-*"))[-1]
    assert (last / "adapter_model.safetensors").exists() and not (
        last / "model.safetensors"
    ).exists()
    _as_full(cfg.run_dir)
    _as_full(halves.run_dir)
    assert_same_run(cfg.run_dir, halves.run_dir)
    moved = load_policy(f"{cfg.run_dir}/final", device="cpu")
    torch.testing.assert_close(
        scores(moved.model), scores(whole.policy.model), atol=1e-5, rtol=1e-5
    )
    assert whole.logs[-1].kl > 0


def _as_full(run_dir: str) -> None:
    """Give the checkpoints' adapters the name that assert_same_run looks for."""
    for folder in Path(run_dir).glob("checkpoint-*"):
        (folder / "adapter_model.safetensors").rename(folder / "model.safetensors")


def test_full_and_lora_write_the_same_log(cfg, tmp_path):
    """One loop: the same fields, and step 0 is the same rollout of the same base."""
    logs = {}
    for tuning in ("full", "lora"):
        run = cfg.change(tuning=tuning, run_dir=str(tmp_path / tuning), steps=2)
        train(run, rewards=VARIED, progress=False)
        text = (tmp_path / tuning / "metrics.jsonl").read_text()
        logs[tuning] = [json.loads(line) for line in text.splitlines()]
    assert [r.keys() for r in logs["full"]] == [r.keys() for r in logs["lora"]]
    for field in ("reward", "length", "entropy", "loss", "clip_fraction"):
        assert logs["full"][0][field] == pytest.approx(logs["lora"][0][field], abs=1e-6), field
    assert logs["lora"][0]["grad_norm"] > 0


def test_recomputed_activations_give_the_same_gradient(mini_folder, rows, monkeypatch):  # noqa: F811
    found = []
    for tuning in ("full", "lora"):
        for again in (False, True):
            policy = load_policy(
                mini_folder, device="cpu", tuning=tuning, gradient_checkpointing=again
            )
            policy = replace(policy, model=policy.model.double())
            optimizer = RecordingOptimizer(policy.model)
            update(policy, rows, optimizer, SETTINGS, step=1)
            found.append(optimizer.gradient)
            assert policy.model.is_gradient_checkpointing == again
    assert_same(found[0], found[1])
    assert_same(found[2], found[3])


def test_rollouts_are_the_same_with_recomputed_activations(mini_folder, mini, problems):  # noqa: F811
    policy = load_policy(mini_folder, device="cpu", gradient_checkpointing=True)
    assert tokens(draw(policy, problems)) == tokens(draw(mini, problems))


def test_what_does_not_fit_is_named(lora, mini_folder, tmp_path, monkeypatch):
    save_policy(lora, tmp_path / "adapter")
    with pytest.raises(UserError, match="does not fit.*lora_rank"):
        load_policy(
            mini_folder, device="cpu", tuning="lora", lora_rank=8, adapter=tmp_path / "adapter"
        )
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(UserError, match='tuning="lora" needs peft.*pip install peft'):
        adapters.add_adapter(lora.model, 4, 8.0, 0)
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes", None)
    with pytest.raises(UserError, match='tuning="qlora" needs bitsandbytes'):
        adapters.quantised(torch.float32)
    from r1lite.config import preset

    with pytest.raises(UserError, match="optimizer='adamw_8bit' needs bitsandbytes"):
        make_optimizer(lora, preset("tiny", optimizer="adamw_8bit"))
    with pytest.raises(UserError, match="tuning='half'.*full, lora, qlora"):
        preset("tiny", tuning="half")


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_what_generation_needs_arrives_in_final(cfg, tuning, tmp_path):
    """Its settings and the chat template of the folder that was trained, whatever was trained."""
    source = tmp_path / "source"
    shutil.copytree(cfg.model, source)
    asked = {"top_p": 0.83, "do_sample": True, "eos_token_id": [1, 7]}
    (source / "generation_config.json").write_text(json.dumps(asked))
    template = "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}"
    (source / "chat_template.jinja").write_text(template)
    cfg = cfg.change(model=str(source), tuning=tuning, steps=3)
    train(cfg, rewards=VARIED, progress=False)
    final = Path(cfg.run_dir) / "final"
    found = json.loads((final / "generation_config.json").read_text())
    assert {name: found.get(name) for name in asked} == asked
    messages = [{"role": "user", "content": "hi"}]
    tokenizer = load_policy(str(final), device="cpu").tokenizer
    assert tokenizer.apply_chat_template(messages, tokenize=False) == "<user>hi"
