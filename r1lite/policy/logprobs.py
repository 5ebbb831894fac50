"""Log-probabilities of tokens that were written, under a policy as it is now."""

from __future__ import annotations

import torch


def token_logps(
    model: torch.nn.Module, token_ids: torch.Tensor, *, temperature: float = 1.0
) -> torch.Tensor:
    """Log-probability (nats) of each next token.

    token_ids    (B, L), padded on the right, so that causal attention needs no mask
    temperature  the one that the answers were sampled at: the policy that acted is the
                 softmax of logits / temperature, and a mismatch is silently off-policy
    Returns (B, L-1); entry l belongs to token l + 1.
    """
    logits = model(input_ids=token_ids, use_cache=False).logits[:, :-1]
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
    return -torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), token_ids[:, 1:].flatten(), reduction="none"
    ).view(token_ids.shape[0], -1)
