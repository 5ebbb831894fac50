"""The objective of GRPO and of its relatives: pure tensors, no model, no I/O.

Two printed forms. DeepSeekMath (arXiv 2402.03300, eq. 3) has one ratio per token and averages
over the tokens of an answer; R1 (arXiv 2501.12948, eq. 1 to 3) has one ratio per whole output
and no 1/|o|. The R1 text speaks of clipped tokens, so which one was run cannot be read off it.
Later papers change one part each; r1lite.lab.objectives names their settings.
"""

from dataclasses import dataclass
from typing import Any

import torch

from ..config import RunConfig
from .batching import Batch

OBJECTIVES = ("deepseekmath", "r1-printed", "gspo", "cispo")
ESTIMATORS = ("k1", "k2", "k3")


def group_advantages(
    rewards: torch.Tensor, *, scale: str = "std", eps: float = 1e-4, sample_std: bool = False
) -> torch.Tensor:
    """How much better each answer is than its own group.

    rewards     (P, G), NaN where an answer has none: it gets 0 and counts neither for the mean nor
                for the spread. Returns the same shape.
    scale       "std" divides by the group's standard deviation (eq. 3 of R1); "batch" by that of
                all rewards; "none" only subtracts the mean (Dr. GRPO)
    eps         keeps a group of equal rewards at zero: it teaches nothing
    sample_std  divide by G - 1 under the root, not by G. The paper does not say which; for a
                group of two they differ by 41 %.

    >>> group_advantages(torch.tensor([[1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]]), eps=0.5)
    tensor([[ 0.5000, -0.5000, -0.5000,  0.5000],
            [ 0.0000,  0.0000,  0.0000,  0.0000]])
    """
    known = ~rewards.isnan()
    n = known.sum(-1, keepdim=True)
    first = rewards.gather(-1, known.int().argmax(-1, keepdim=True))
    shifted = torch.where(known, rewards - first, 0.0)  # equal rewards: exactly 0, no rounding
    centred = torch.where(known, shifted - shifted.sum(-1, keepdim=True) / n, 0.0)
    if scale == "none":
        return centred
    if scale == "batch":
        return centred / (rewards[known].std(correction=int(sample_std)).nan_to_num() + eps)
    variance = centred.square().sum(-1, keepdim=True) / (n - int(sample_std)).clamp(min=1)
    return centred / (variance.sqrt() + eps)


def k3(logp_new: torch.Tensor, logp_ref: torch.Tensor) -> torch.Tensor:
    """The paper's estimate of KL(policy || reference): r - log r - 1, with r = ref / policy.

    Never negative, and unbiased in value when the answer was sampled from the policy (nats).
    expm1 keeps small differences exact.
    """
    log_ratio = logp_ref - logp_new
    return torch.expm1(log_ratio) - log_ratio


def kl_estimate(logp_new: torch.Tensor, logp_ref: torch.Tensor, estimator: str) -> torch.Tensor:
    """Schulman's k1, k2 or k3 for samples of the policy (nats), the same shape.

    k1 = log(policy / ref) and k3 have the KL as their mean; as a loss k1 has a gradient that
    averages to 0, and that of k3 to the gradient of KL(ref || policy). k2 = k1^2 / 2 is off in
    value, and its gradient is that of the KL.
    """
    if estimator == "k3":
        return k3(logp_new, logp_ref)
    k1 = logp_new - logp_ref
    return k1 if estimator == "k1" else k1.square() / 2


@dataclass(frozen=True)
class Terms:
    """per_answer  (B,) what to minimise, one value per answer; divide its sum by the answers
    kl             (B,) KL estimate of each answer: mean of its tokens, or of the whole output
                   (R1), nats
    n_clipped      answer tokens whose gradient the clip removed, or whose weight it cut (CISPO)
    """

    per_answer: torch.Tensor
    kl: torch.Tensor
    n_clipped: torch.Tensor


def grpo_terms(
    logp_new: torch.Tensor,
    logp_old: torch.Tensor,
    advantages: torch.Tensor,
    response_mask: torch.Tensor,
    *,
    clip_epsilon: float,
    clip_epsilon_high: float | None = None,
    dual_clip: float | None = None,
    logp_sampler: torch.Tensor | None = None,
    importance_cap: float | None = None,
    beta: float = 0.0,
    logp_ref: torch.Tensor | None = None,
    estimator: str = "k3",
    kl_importance_weighted: bool = False,
    objective: str = "deepseekmath",
    divide_by: float | None = None,
) -> Terms:
    """GRPO loss per answer: minus the clipped surrogate, plus beta times the KL estimate.

    logp_*         (B, L-1) log-probabilities (nats); new has the gradient, old is the policy's
                   that wrote the answer
    advantages     (B,) the same for every token of an answer, or (B, L-1) of each token
    response_mask  (B, L-1) True where the policy wrote the token
    clip_epsilon   the ratio counts between 1 - eps and 1 + eps; R1 used 10, so that only ratios
                   above 11 with a positive advantage are cut. clip_epsilon_high is the eps above
                   1, if it is another (DAPO's clip-higher)
    dual_clip      ratios count at most this much, also for negative advantages; None: no limit
    logp_sampler   (B, L-1) what the engine that wrote the answer made of that policy, if it rounds
                   otherwise than the trainer: the surrogate is then multiplied by old / sampler,
                   but at most by importance_cap (truncated importance sampling, Yao et al. 2025)
    estimator      of the KL: k1, k2 or k3; kl_importance_weighted multiplies it by the ratio,
                   which makes the gradient of k1 and k3 the KL's own
    objective      the ratio is that of a token ("deepseekmath", "cispo"), of the whole output
                   ("r1-printed") or the geometric mean over its tokens ("gspo")
    divide_by      tokens by which the sum over an answer's tokens is divided: its own number if
                   None; the same for all in Dr. GRPO (the limit) and DAPO (the batch's mean)
    When the ratios are 1 and beta is 0, the values of a group add up to 0 and the gradient does
    not: the gradient of a ratio at 1 is that of the log-probability.
    """
    _check_choices(objective, estimator, beta, logp_ref)
    mask = response_mask.to(logp_new.dtype)
    n_tokens = mask.sum(-1, keepdim=True).clamp(min=1)
    log_ratio = (logp_new - logp_old.to(logp_new.dtype)) * mask
    if objective in ("r1-printed", "gspo"):  # one ratio an answer, (B, 1); else (B, L-1)
        log_ratio = log_ratio.sum(-1, keepdim=True)
    if objective == "gspo":
        log_ratio = log_ratio / n_tokens
    ratio, advantage = log_ratio.exp(), advantages.to(logp_new.dtype)
    if advantage.dim() == 1:
        advantage = advantage[:, None]
    high = 1 + (clip_epsilon if clip_epsilon_high is None else clip_epsilon_high)
    if objective == "cispo":
        was_clipped = ratio > high
        surrogate = ratio.clamp(max=high).detach() * advantage * logp_new
    else:
        surrogate, was_clipped = clipped_surrogate(
            ratio, advantage, 1 - clip_epsilon, high, dual_clip
        )
    if logp_sampler is not None:
        log_weight = (logp_old - logp_sampler).to(logp_new.dtype) * mask
        if log_ratio.shape[-1] == 1:  # the weight is that of what the ratio is of
            log_weight = log_weight.sum(-1, keepdim=True)
            log_weight = log_weight / (n_tokens if objective == "gspo" else 1)
        surrogate = surrogate * log_weight.exp().clamp(max=importance_cap)
    kl = torch.zeros_like(surrogate)
    if beta:
        new, ref = logp_new * mask, logp_ref * mask
        if objective == "r1-printed":
            new, ref = (x.sum(-1, keepdim=True) for x in (new, ref))
        kl = kl_estimate(new, ref, estimator) * (ratio if kl_importance_weighted else 1)

    def per_answer(x: torch.Tensor, divisor: torch.Tensor) -> torch.Tensor:
        x = x.expand(mask.shape).masked_fill(~response_mask, 0.0)
        return x.sum(-1) / divisor[:, 0]

    divisor = n_tokens if divide_by is None else torch.full_like(n_tokens, divide_by)
    return Terms(
        per_answer=per_answer(beta * kl - surrogate, divisor),
        kl=per_answer(kl, n_tokens).detach(),
        n_clipped=(was_clipped & response_mask).sum().to(mask.dtype),
    )


def clipped_surrogate(
    ratio: torch.Tensor,
    advantage: torch.Tensor,
    low: float,
    high: float,
    dual_clip: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """PPO's min(r A, clip(r, low, high) A), and where it is the clip that counts.

    Both (B, L-1) or (B, 1), as the ratio is. With dual_clip, r counts at most this much.
    """
    counted = ratio if dual_clip is None else ratio.clamp(max=dual_clip)
    clipped = ratio.clamp(low, high) * advantage
    was_clipped = (clipped < counted * advantage) | ((counted < ratio) & (advantage < 0))
    return torch.minimum(counted * advantage, clipped), was_clipped


def _check_choices(objective: str, estimator: str, beta: float, logp_ref: Any) -> None:
    if objective not in OBJECTIVES:
        raise ValueError(f"objective={objective!r} must be one of {', '.join(OBJECTIVES)}")
    if estimator not in ESTIMATORS:
        raise ValueError(f"estimator={estimator!r} must be one of {', '.join(ESTIMATORS)}")
    if beta and logp_ref is None:
        raise ValueError(f"beta={beta} needs logp_ref: the KL penalty compares with the reference")


def grpo_loss(logps: torch.Tensor, batch: Batch, cfg: RunConfig) -> Terms:
    """grpo_terms of a batch with the settings of a run: what train() minimises by default.

    logps  (B, L-1) log-probabilities (nats) of the batch's tokens under the policy of now
    A loss of your own has this signature; it may return per-answer values (B,) alone.
    """
    logp_old, logp_sampler = batch.logp_old, None
    if cfg.importance_cap:  # the old policy as the trainer sees it; of one update: that of now
        logp_sampler = batch.logp_old
        logp_old = logps.detach() if batch.logp_trainer is None else batch.logp_trainer
    divide_by = {
        "sequence_mean": None,
        "token_mean": batch.mean_length,
        "max_length": float(cfg.max_new_tokens),
    }
    return grpo_terms(
        logps,
        logp_old,
        batch.advantages,
        batch.response_mask,
        clip_epsilon=cfg.clip_epsilon,
        clip_epsilon_high=cfg.clip_epsilon_high or None,
        dual_clip=cfg.dual_clip or None,
        logp_sampler=logp_sampler,
        importance_cap=cfg.importance_cap,
        beta=cfg.beta if batch.logp_ref is not None else 0.0,
        logp_ref=batch.logp_ref,
        estimator=cfg.kl_estimator,
        kl_importance_weighted=cfg.kl_importance_weighted,
        objective=cfg.objective,
        divide_by=divide_by[cfg.loss_aggregation],
    )
