"""QLoRA on the CPU, by the components that a GPU uses: bitsandbytes' NF4 and 8-bit moments."""

from dataclasses import replace

import pytest
import torch
from conftest import VARIED, without_seconds
from test_many import launch, same_run

from r1lite.learn import train
from r1lite.learn.optimizer import make_optimizer
from r1lite.policy import load_policy, sample_groups, token_logps
from r1lite.policy.adapters import Reference, merged, trainable, weight_of
from r1lite.policy.load import save_policy
from r1lite.world import make_problems

pytestmark = pytest.mark.deep
IDS = torch.arange(3, 43).view(4, 10)


@pytest.fixture
def policy(mini_folder):
    return load_policy(mini_folder, device="cpu", tuning="qlora", lora_rank=4)


def shake(policy) -> None:
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in trainable(policy.model).values():
            parameter.add_(0.3 * torch.randn_like(parameter))


def scores(model) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def test_the_base_is_in_four_bits_and_off_by_what_four_bits_cost(policy, mini_folder):
    plain = load_policy(mini_folder, device="cpu").model
    layer = policy.model.model.layers[0].self_attn.q_proj
    assert layer.base_layer.weight.dtype == torch.uint8
    assert layer.base_layer.weight.numel() == 32 * 32 / 2
    ours, theirs = weight_of(layer), plain.model.layers[0].self_attn.q_proj.weight
    error = (ours - theirs).abs().mean() / theirs.abs().mean()
    assert 0.01 < error < 0.2
    assert not torch.equal(scores(policy.model), scores(plain))


def test_it_trains_through_the_loop_and_resumes(cfg, tmp_path):
    cfg = cfg.change(tuning="qlora", lora_rank=4, beta=0.05, reference_every=2)
    whole = train(cfg, rewards=VARIED, progress=False)
    halves = cfg.change(run_dir=str(tmp_path / "halves"))
    train(halves.change(steps=3), rewards=VARIED, progress=False)
    again = train(halves, rewards=VARIED, progress=False)
    assert without_seconds(whole.logs) == without_seconds(again.logs) and len(whole.logs) == 6
    assert all(log.grad_norm > 0 and log.sampler_gap < 1e-4 for log in whole.logs)
    first, last = (trainable(p.model) for p in (whole.policy, again.policy))
    assert all(torch.equal(first[name], last[name]) for name in first)
    assert any(p.abs().max() > 0 for name, p in first.items() if "lora_B" in name)


def test_the_reference_is_exact(policy, mini_folder):
    """Adapter off, the same 4-bit base: equal to the last bit, after any training."""
    fresh = scores(load_policy(mini_folder, device="cpu", tuning="qlora", lora_rank=4).model)
    reference = Reference(policy.model)
    shake(policy)
    sample_groups(policy, make_problems("countdown", "train", 1), group_size=2, max_new_tokens=8)
    with reference.as_model() as model:
        assert torch.equal(scores(model), fresh)
    assert not torch.equal(scores(policy.model), fresh)


def test_the_sampler_has_the_trainers_log_probabilities(policy):
    """bitsandbytes may repack weights in eval(): then sampler and trainer would differ."""
    shake(policy)
    problems = make_problems("countdown", "train", 2)
    for group in sample_groups(policy, problems, group_size=3, max_new_tokens=12):
        for answer in group.completions:
            ids = torch.tensor([[*group.prompt_ids, *answer.token_ids]])
            logps = token_logps(policy.model, ids)[0, len(group.prompt_ids) - 1 :]
            torch.testing.assert_close(logps, torch.tensor(answer.logps), atol=5e-5, rtol=0)


def test_merged_is_unmerged(policy, tmp_path):
    from transformers import AutoModelForCausalLM

    shake(policy)
    save_policy(replace(policy, model=merged(policy.model)), tmp_path / "plain")
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "plain")
    assert not hasattr(found.config, "quantization_config")
    assert found.model.layers[0].self_attn.q_proj.weight.dtype == torch.float32
    with torch.no_grad():  # matrix by matrix, as rounding grows on its way through a random model
        layers = dict(policy.model.named_modules())
        for name, ours in found.named_modules():
            if name.endswith("_proj"):
                linear = layers[name]
                unit = torch.eye(linear.in_features)
                torch.testing.assert_close(ours(unit), linear(unit), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(scores(found), scores(policy.model), atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("name", ["adamw_8bit", "paged_adamw_8bit"])
def test_moments_in_eight_bits_learn_like_those_in_thirty_two(name, mini_folder, cfg):
    """The same gradients: steps of nearly the same size and direction."""
    moved = {}
    for kind in ("adamw", name):
        policy = load_policy(mini_folder, device="cpu")
        before = {n: p.detach().clone() for n, p in policy.model.named_parameters()}
        optimizer = make_optimizer(policy, cfg.change(optimizer=kind, learning_rate=1e-3))
        for i in range(5):
            torch.manual_seed(i)
            for p in policy.model.parameters():
                p.grad = torch.randn_like(p) + 0.5
            optimizer.step()
        after = dict(policy.model.named_parameters())
        moved[kind] = torch.cat([(after[n] - before[n]).flatten() for n in before])
        if kind == name:
            states = [s for s in optimizer.state.values() if s["state1"].dtype == torch.uint8]
            assert states, "a matrix of 4,096 numbers or more has its moments in 8 bits"
    cosine = torch.nn.functional.cosine_similarity(moved["adamw"], moved[name], dim=0)
    assert cosine > 0.98
    assert moved[name].norm().item() == pytest.approx(moved["adamw"].norm().item(), rel=0.05)


@pytest.mark.parametrize("name", ["adamw_8bit", "paged_adamw_8bit"])
def test_an_eight_bit_run_goes_through_the_loop(name, cfg, tmp_path):
    cfg = cfg.change(optimizer=name, steps=4, checkpoint_every=2)
    whole = train(cfg, rewards=VARIED, progress=False)
    halves = cfg.change(run_dir=str(tmp_path / "halves"))
    train(halves.change(steps=2), rewards=VARIED, progress=False)
    again = train(halves, rewards=VARIED, progress=False)
    assert without_seconds(whole.logs) == without_seconds(again.logs)


def test_two_processes_train_it_as_one(tmp_path):
    """As on two small GPUs: the base in 4 bits in each, gradients of the adapter added."""
    changes = {
        "tuning": "qlora",
        "lora_rank": 4,
        "n_problems": 5,
        "steps": 3,
        "learning_rate": 1e-3,
    }
    for n in (0, 2):
        launch(n, tmp_path / str(n), **changes)
    same_run(tmp_path / "0", tmp_path / "2")
