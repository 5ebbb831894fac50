"""The objective of GRPO: pure tensors, no model, no I/O.

Two printed forms. DeepSeekMath (arXiv 2402.03300, eq. 3) has one ratio per token and averages
over the tokens of an answer; R1 (arXiv 2501.12948, eq. 1 to 3) has one ratio per whole output
and no 1/|o|. The R1 text speaks of clipped tokens, so which one was run cannot be read off it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

FORMS = ("deepseekmath", "r1-printed")


def group_advantages(
    rewards: torch.Tensor, *, scale: str = "std", eps: float = 1e-4
) -> torch.Tensor:
    """How much better each answer is than its own group.

    rewards  (P, G). Returns the same shape.
    scale    "std" divides by the group's population standard deviation (eq. 3 of R1); "none"
             only subtracts the mean (Dr. GRPO)
    eps      keeps a group of equal rewards at zero: it teaches nothing
    The paper does not say which standard deviation; for a group of two they differ by 41 %.

    >>> group_advantages(torch.tensor([[1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]]), eps=0.5)
    tensor([[ 0.5000, -0.5000, -0.5000,  0.5000],
            [ 0.0000,  0.0000,  0.0000,  0.0000]])
    """
    shifted = rewards - rewards[..., :1]  # so that equal rewards give exactly 0, not a rounding
    centred = shifted - shifted.mean(-1, keepdim=True)
    if scale == "none":
        return centred
    return centred / (centred.square().mean(-1, keepdim=True).sqrt() + eps)


def k3(logp_new: torch.Tensor, logp_ref: torch.Tensor) -> torch.Tensor:
    """The paper's estimate of KL(policy || reference): r - log r - 1, with r = ref / policy.

    Never negative, and unbiased in value when the answer was sampled from the policy (nats).
    expm1 keeps small differences exact.
    """
    log_ratio = logp_ref - logp_new
    return torch.expm1(log_ratio) - log_ratio


@dataclass(frozen=True)
class Terms:
    """per_answer  (B,) what to minimise, one value per answer; divide its sum by the answers
    kl             (B,) mean (DeepSeekMath) or whole-output (R1) k3 of each answer, nats
    n_clipped      answer tokens whose gradient the clip removed
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
    beta: float = 0.0,
    logp_ref: torch.Tensor | None = None,
    form: str = "deepseekmath",
) -> Terms:
    """The clipped gain with its sign turned, plus the leash to the reference, per answer.

    logp_*         (B, L-1) log-probabilities (nats); new has the gradient, old is the sampler's
    advantages     (B,)     the same for every token of an answer
    response_mask  (B, L-1) True where the policy wrote the token
    clip_epsilon   the ratio counts between 1 - eps and 1 + eps; R1 used 10, so that only ratios
                   above 11 with a positive advantage are cut
    When the ratios are 1 and beta is 0, the values of a group add up to 0 and the gradient does
    not: the gradient of a ratio at 1 is that of the log-probability.
    """
    if form not in FORMS:
        raise ValueError(f"form={form!r} must be one of {', '.join(FORMS)}")
    if beta and logp_ref is None:
        raise ValueError(f"beta={beta} needs logp_ref: the leash has to be tied to something")
    mask = response_mask.to(logp_new.dtype)
    n_tokens = mask.sum(-1).clamp(min=1)
    log_ratio = (logp_new - logp_old.to(logp_new.dtype)) * mask
    advantage = advantages.to(logp_new.dtype)
    if form == "r1-printed":
        ratio = log_ratio.sum(-1).exp()
    else:
        ratio, advantage = log_ratio.exp(), advantage[:, None]
    clipped = ratio.clamp(1 - clip_epsilon, 1 + clip_epsilon)
    gain = torch.minimum(ratio * advantage, clipped * advantage)
    was_clipped = (clipped * advantage < ratio * advantage).to(mask.dtype)
    if form == "r1-printed":
        n_clipped = (was_clipped * n_tokens).sum()
    else:
        n_clipped, gain = (was_clipped * mask).sum(), (gain * mask).sum(-1) / n_tokens
    kl = torch.zeros_like(gain)
    if beta:
        if form == "r1-printed":
            kl = k3((logp_new * mask).sum(-1), (logp_ref * mask).sum(-1))
        else:
            kl = k3(logp_new * mask, logp_ref * mask).sum(-1) / n_tokens
    return Terms(per_answer=beta * kl - gain, kl=kl.detach(), n_clipped=n_clipped.detach())
