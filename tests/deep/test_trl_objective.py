"""Our objective against the loss function of TRL 1.16 itself, on the same random tensors."""

from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch

from r1lite.learn.objective import group_advantages, grpo_terms
from r1lite.rewards import overlong_penalty

pytestmark = pytest.mark.deep
LIMIT = 12  # tokens

# TRL's settings -> ours. Its CISPO bound is the bound itself, ours stands above 1.
CASES = {
    "grpo": ({"loss_type": "grpo"}, {}),
    "grpo, R1's epsilon": ({"loss_type": "grpo", "low": 10.0, "high": 10.0}, {}),
    "bnpo": ({"loss_type": "bnpo"}, {"divide_by": "mean"}),
    "dr_grpo": ({"loss_type": "dr_grpo"}, {"divide_by": float(LIMIT)}),
    "dapo, clip-higher": ({"loss_type": "dapo", "high": 0.28}, {"divide_by": "mean"}),
    "dual clip": ({"loss_type": "grpo", "delta": 1.5}, {"dual_clip": 1.5}),
    "gspo": ({"loss_type": "grpo", "level": "sequence"}, {"objective": "gspo"}),
    "gspo, token mean": (
        {"loss_type": "dapo", "level": "sequence"},
        {"objective": "gspo", "divide_by": "mean"},
    ),
    "cispo": ({"loss_type": "cispo", "high": 1.3}, {"objective": "cispo", "divide_by": "mean"}),
    "k3": ({"loss_type": "grpo", "beta": 0.3}, {}),
    "k3, batch": ({"loss_type": "bnpo", "beta": 0.3}, {"divide_by": "mean"}),
    "k3, weighed": (
        {"loss_type": "grpo", "beta": 0.3, "weigh": True},
        {"kl_importance_weighted": True},
    ),
}


def trl_loss(
    tensors, *, loss_type, level="token", low=0.2, high=0.2, delta=None, beta=0.0, weigh=False
):
    """GRPOTrainer._compute_loss with a stand-in for the trainer: only what it reads."""
    from trl import GRPOTrainer

    new, old, ref, advantages, mask = tensors
    trainer = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *a, **k: (new, torch.zeros_like(new), None),
        aux_loss_enabled=False,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level=level,
        beta=beta,
        args=SimpleNamespace(use_bias_correction_kl=weigh, delta=delta, steps_per_generation=1),
        loss_type=loss_type,
        epsilon_low=low,
        epsilon_high=high,
        use_vllm=False,
        model=SimpleNamespace(training=True),
        current_gradient_accumulation_steps=1,
        max_completion_length=LIMIT,
        accelerator=SimpleNamespace(
            num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x
        ),
        _entropy_bonus_enabled=False,
        _metrics=defaultdict(lambda: defaultdict(list)),
    )
    ids = torch.zeros(len(new), 1, dtype=torch.long)
    inputs = {
        "prompt_ids": ids,
        "prompt_mask": ids,
        "completion_ids": torch.zeros(mask.shape, dtype=torch.long),
        "completion_mask": mask.long(),
        "advantages": advantages,
        "old_per_token_logps": old,
        "ref_per_token_logps": ref,
        "num_items_in_batch": mask.sum(),
    }
    return GRPOTrainer._compute_loss(trainer, None, inputs)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient_are_trls(name, seed):
    theirs, ours = CASES[name]
    torch.manual_seed(seed)
    shape = (9, LIMIT)
    old = -torch.rand(shape, dtype=torch.float64) * 3 - 0.1
    ref, drifted = (old + 0.4 * torch.randn(shape, dtype=torch.float64) for _ in range(2))
    lengths = torch.randint(1, LIMIT + 1, (9, 1))
    mask = torch.arange(LIMIT)[None] < lengths
    advantages = torch.randn(9, dtype=torch.float64)
    new = drifted.clone().requires_grad_()
    wanted = trl_loss((new, old, ref, advantages, mask), **theirs)
    (gradient,) = torch.autograd.grad(wanted, new)

    settings = dict(ours)
    if settings.get("divide_by") == "mean":
        settings["divide_by"] = mask.sum().item() / len(mask)
    low, high = theirs.get("low", 0.2), theirs.get("high", 0.2)
    if settings.get("objective") == "cispo":
        high -= 1
    terms = grpo_terms(
        new, old, advantages, mask,
        clip_epsilon=low, clip_epsilon_high=high,
        beta=theirs.get("beta", 0.0), logp_ref=ref, **settings,
    )  # fmt: skip
    found = terms.per_answer.sum() / len(mask)
    assert found.item() == pytest.approx(wanted.item(), abs=1e-6)
    assert torch.allclose(torch.autograd.grad(found, new)[0], gradient, atol=1e-6)
    assert gradient.abs().max() > 1e-3


def test_the_overlong_penalty_is_trls():
    from trl.rewards import get_soft_overlong_punishment

    theirs = get_soft_overlong_punishment(max_completion_len=100, soft_punish_cache=20)
    for n in (1, 80, 81, 90, 99, 100):
        assert overlong_penalty(n, 100, 20) == pytest.approx(theirs([[0] * n])[0])


@pytest.mark.parametrize(
    ("rewards", "best", "worst"),
    [
        ([1, 1, 0, 0, 0, 0, 0, 0], 1.619835, -0.539945),
        ([1, 0, 0, 0], 1.4997, -0.4999),
        ([1, 1, 1, 1, 0, 0, 0, 0], 0.935239, -0.935239),
        ([1, 0], 0.707007, -0.707007),
    ],
)
def test_advantages_with_the_sample_spread_are_the_listed_ones(rewards, best, worst):
    values = group_advantages(torch.tensor([rewards], dtype=torch.float64), sample_std=True)[0]
    assert values[0].item() == pytest.approx(best, abs=2e-6)
    assert values[-1].item() == pytest.approx(worst, abs=2e-6)
