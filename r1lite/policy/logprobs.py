"""Log-probabilities of tokens that were written, under a policy as it is now."""

from __future__ import annotations

import weakref
from typing import Any

import torch

from .savings import saves

# From here on the scores of all words are never held at once. Below, one matrix is faster.
LARGE_VOCABULARY = 8192
# PyTorch's own choice makes parts smaller as the vocabulary grows, each of which goes through all
# of the matrix: a quadratic. Parts of one size make it proportional.
SCORES_AT_ONCE = 2**23


def token_logps(
    model: Any,
    token_ids: torch.Tensor,
    *,
    temperature: float = 1.0,
    response_mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Log-probability (nats) of each next token.

    token_ids      (B, L), padded on the right, so that causal attention needs no mask
    temperature    the one that the answers were sampled at: the policy that acted is the
                   softmax of logits / temperature, and a mismatch is silently off-policy
    response_mask  (B, L-1) compute only where True; the rest is 0
    Returns (B, L-1); entry l belongs to token l + 1.
    """
    return forward_logps(
        model,
        token_ids[:, 1:],
        response_mask,
        temperature,
        input_ids=token_ids[:, :-1],
        use_cache=False,
    )


def forward_logps(
    model: Any,
    targets: torch.Tensor,
    mask: torch.Tensor | None,
    temperature: float,
    **inputs: Any,
) -> torch.Tensor:
    """Log-probabilities (B, N) of targets (B, N) after a forward pass on N tokens a row.

    mask  (B, N) compute the scores of words only where True; the rest is 0
    """
    compute = getattr(model, "compute_logps", None)  # a model in slices has to be put together
    if compute is None:
        return compute_logps(model, targets, mask, temperature, **inputs)
    return compute(targets, mask, temperature, **inputs)


def compute_logps(
    model: Any,
    targets: torch.Tensor,
    mask: torch.Tensor | None,
    temperature: float,
    **inputs: Any,
) -> torch.Tensor:
    """forward_logps of a model whose weights are there."""
    body, weight = plain_head(model)
    if body is None:
        scores = model(**inputs).logits
        logps = cross_entropy_logps(scores.flatten(0, 1), targets.flatten(), temperature)
        logps = logps.view(targets.shape)
        return logps if mask is None else logps * mask
    return answer_logps(body(**inputs).last_hidden_state, weight, targets, mask, temperature)


def answer_logps(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    mask: torch.Tensor | None,
    temperature: float,
) -> torch.Tensor:
    """Log-probabilities (B, N) of targets, from last states (B, N, width) and head (V, width)."""
    if mask is None or not saves("answer_scores_only"):
        mask = torch.ones_like(targets, dtype=torch.bool)
    wanted = mask.flatten().nonzero()[:, 0]
    hidden = hidden.flatten(0, 1).index_select(0, wanted)
    targets = targets.flatten().index_select(0, wanted)
    if len(weight) >= LARGE_VOCABULARY:
        found = -torch.nn.functional.linear_cross_entropy(
            hidden / temperature,
            weight,
            targets,
            reduction="none",
            options=torch.nn.LinearCrossEntropyOptions(
                batch_chunk_size=max(SCORES_AT_ONCE // len(weight), 1), chunking_method=None
            ),
        )
    else:
        scores = torch.nn.functional.linear(hidden, weight)
        found = cross_entropy_logps(scores, targets, temperature)
    return found.new_zeros(mask.shape).masked_scatter(mask, found)


def cross_entropy_logps(
    scores: torch.Tensor, targets: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Log-probabilities (N,) of targets (N,) under softmax(scores / temperature), scores (N, V)."""
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    if temperature != 1.0:
        scores = scores / temperature
    return -torch.nn.functional.cross_entropy(scores, targets, reduction="none")


_HEADS: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()


def plain_head(model: Any) -> tuple[Any, torch.Tensor] | tuple[None, None]:
    """The model without its last layer, and that layer's matrix (V, width).

    (None, None) where scores are more than matrix times state (a bias, a soft cap, a scale):
    tried once per model on two tokens, not guessed from its name.
    """
    body, head = model.get_decoder(), model.get_output_embeddings()
    if model not in _HEADS:
        _HEADS[model] = hasattr(torch.nn.functional, "linear_cross_entropy") and _is_plain(
            model, body, head
        )
    return (body, head.weight) if _HEADS[model] else (None, None)


@torch.no_grad()
def _is_plain(model: Any, body: Any, head: Any) -> bool:
    if body is None or head is None or type(head) is not torch.nn.Linear or head.bias is not None:
        return False
    was_training = model.training
    model.eval()
    tokens = torch.tensor([[0, 1]], device=head.weight.device)
    scores = model(input_ids=tokens, use_cache=False).logits
    by_hand = head(body(input_ids=tokens, use_cache=False).last_hidden_state)
    model.train(was_training)
    return torch.equal(scores, by_hand)
