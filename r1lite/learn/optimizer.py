"""The optimizer, its learning rate over a run, and one step of it."""

import math
from collections.abc import Sequence

import torch

from .. import dist
from ..config import TrainingConfig
from ..policy.adapters import trainable
from ..policy.load import Policy
from ..policy.shard import full_tensor, is_sharded
from ..records import UserError, needs


def make_optimizer(policy: Policy, cfg: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW without weight decay, as nothing but the loss should move a weight.

    "adamw_8bit" keeps its two moments in 8 bits, "paged_adamw_8bit" also moves them to the main
    memory while the GPU is full (bitsandbytes; matrices below 4,096 numbers stay in 32 bits).
    Raises UserError where bitsandbytes is missing, or cannot do it.
    """
    weights = list(trainable(policy.model).values())
    how = {"lr": cfg.learning_rate, "weight_decay": 0.0}
    if cfg.optimizer == "adamw":
        return with_peaks(torch.optim.AdamW(weights, fused=True, **how))
    if is_sharded(policy.model):
        raise UserError(
            f"optimizer={cfg.optimizer!r} cannot keep its moments sharded, as torchrun trains "
            'all weights. Set optimizer="adamw", or train an adapter: tuning="lora".'
        )
    with needs(f"optimizer={cfg.optimizer!r}", "bitsandbytes", 'set optimizer="adamw"'):
        from bitsandbytes import optim
    kind = optim.AdamW8bit if cfg.optimizer == "adamw_8bit" else optim.PagedAdamW8bit
    return with_peaks(kind(weights, **how))


def with_peaks(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The optimizer, its learning rates noted as the peaks that learning_rate_factor scales."""
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer


def learning_rate_factor(cfg: TrainingConfig, step: int) -> float:
    """Share of the peak learning rate at an update (from 1): a linear warm-up, then the schedule.

    schedule  "constant" (of RL always); "linear" falls in a line, "cosine" in half a wave, both to
              min_learning_rate, which is a share of the peak too
    """
    warmup = min(1.0, step / max(cfg.warmup_steps, 1))
    if cfg.schedule == "constant":
        return warmup
    done = (step - 1) / cfg.steps
    left = 1 - done if cfg.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
    return warmup * (cfg.min_learning_rate + (1 - cfg.min_learning_rate) * left)


def optimizer_step(
    policy: Policy,
    optimizers: Sequence[torch.optim.Optimizer],
    cfg: TrainingConfig,
    step: int,
) -> dict[str, float]:
    """Clip the gradient, set the learning rate, step, and forget the gradient.

    step  the update, counted from 1
    Returns {"grad_norm": L2 norm before the clip}. No step is made where there is no gradient, as
    Adam's momentum would move the weights for no reason; nor where it is not finite, as weights and
    Adam's moments would never recover.
    """
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    parameters = [p for group in groups for p in group["params"]]
    grad_norm = 0.0
    if dist.any_process(any(p.grad is not None for p in parameters)):
        if not is_sharded(policy.model):
            dist.all_reduce_gradients(parameters)
        norm = torch.nn.utils.clip_grad_norm_(parameters, cfg.max_grad_norm)
        grad_norm = full_tensor(norm).item()
        if math.isfinite(grad_norm):
            factor = learning_rate_factor(cfg, step)
            for group in groups:
                group["lr"] = group.get("initial_lr", cfg.learning_rate) * factor
            for optimizer in optimizers:
                optimizer.step()
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    return {"grad_norm": grad_norm}
