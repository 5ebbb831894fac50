"""Supervised next-token training: how a base is made, and later cold start and distillation."""

from collections.abc import Sequence

import torch

from ..learn.batching import pad_right, token_budget_chunks


def next_token_backward(
    model: torch.nn.Module,
    documents: Sequence[Sequence[int]],
    *,
    pad_id: int,
    budget: int,
) -> float:
    """Add the gradient of the mean cross-entropy over all tokens of all documents.

    documents  token ids; every token after the first is predicted, the stop token too
    budget     padded tokens per forward pass; changes memory, never the gradient
    Returns the loss in nats per token.
    """
    n_tokens = sum(len(d) - 1 for d in documents)
    device = next(model.parameters()).device
    total = 0.0
    for chunk in token_budget_chunks([len(d) for d in documents], budget):
        rows = [documents[i] for i in chunk]
        ids = pad_right(rows, pad_id, torch.long).to(device)
        targets = pad_right([d[1:] for d in rows], -100, torch.long).to(device)
        # padding sits on the right, so causal attention never sees it: no mask needed
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1).to(torch.promote_types(logits.dtype, torch.float32)),
            targets.flatten(),
            ignore_index=-100,
            reduction="sum",
        )
        (loss / n_tokens).backward()
        total += loss.item()
    return total / n_tokens
