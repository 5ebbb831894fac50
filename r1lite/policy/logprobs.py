"""Log-probabilities of tokens, under a policy as it is now."""

import weakref
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

# From here on the logits of all words are never held at once. Below, one matrix is faster.
LARGE_VOCABULARY = 8192
# Parts of so many logits, rows x vocabulary, keep time proportional to the vocabulary. A GPU reads
# the head's matrix once per part: parts of few rows would have it wait for memory.
LOGITS_AT_ONCE = 2**23
LOGITS_AT_ONCE_GPU = 2**27


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
    inputs = {"input_ids": token_ids[:, :-1], "use_cache": False}
    return forward_logps(model, token_ids[:, 1:], response_mask, temperature, **inputs)


def forward_logps(
    model: Any,
    targets: torch.Tensor,
    mask: torch.Tensor | None,
    temperature: float,
    **inputs: Any,
) -> torch.Tensor:
    """Log-probabilities (B, N) of targets (B, N) after a forward pass on N tokens a row.

    mask  (B, N) compute the logits of words only where True; the rest is 0
    """
    # a model sharded has its own, which puts it together
    compute = getattr(model, "compute_logps", partial(compute_logps, model))
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
        logits = model(**inputs).logits
        logps = cross_entropy_logps(logits.flatten(0, 1), targets.flatten(), temperature)
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
    if mask is None:
        mask = torch.ones_like(targets, dtype=torch.bool)
    wanted = mask.flatten().nonzero()[:, 0]
    hidden = hidden.flatten(0, 1).index_select(0, wanted)
    targets = targets.flatten().index_select(0, wanted)
    if len(weight) >= LARGE_VOCABULARY:
        found = _LogpsInParts.apply(hidden, weight, targets, temperature)
    else:
        logits = torch.nn.functional.linear(hidden, weight)
        found = cross_entropy_logps(logits, targets, temperature)
    return found.new_zeros(mask.shape).masked_scatter(mask, found)


class _LogpsInParts(torch.autograd.Function):
    """cross_entropy_logps (N,) of hidden (N, width) times weight (V, width), some rows at a time.

    The backward computes each part's logits again: none are kept. d logp / d logit is 1 where the
    word was written, minus the word's probability, over the temperature.
    """

    @staticmethod
    def forward(ctx: Any, hidden, weight, targets, temperature: float) -> torch.Tensor:
        ctx.save_for_backward(hidden, weight, targets)
        ctx.temperature = temperature
        found = [
            cross_entropy_logps(hidden[rows] @ weight.T, targets[rows], temperature)
            for rows in _parts(hidden, weight)
        ]
        return torch.cat(found)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor):
        hidden, weight, targets = ctx.saved_tensors
        to_hidden = torch.empty_like(hidden)
        to_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        for rows in _parts(hidden, weight):
            logits = (hidden[rows] @ weight.T).to(grad.dtype).div_(ctx.temperature)
            slope = torch.softmax(logits, -1, out=logits)
            slope.scatter_add_(1, targets[rows, None], -torch.ones_like(slope[:, :1]))
            slope = slope.mul_(grad[rows, None] / -ctx.temperature).to(hidden.dtype)
            to_hidden[rows] = slope @ weight
            if to_weight is not None:
                to_weight.addmm_(slope.T, hidden[rows])
        return to_hidden, to_weight, None, None


def _parts(hidden: torch.Tensor, weight: torch.Tensor) -> list[slice]:
    n = max((LOGITS_AT_ONCE_GPU if hidden.is_cuda else LOGITS_AT_ONCE) // len(weight), 1)
    return [slice(i, i + n) for i in range(0, max(len(hidden), 1), n)]


def cross_entropy_logps(
    logits: torch.Tensor, targets: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Log-probabilities (N,) of targets (N,) under softmax(logits / temperature), logits (N, V).

    float32 whatever the logits are in (float64 stays): near -3 nats bfloat16 knows only every
    sixty-fourth of a nat, which ratios and importance weights would take for a change of policy.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if temperature != 1.0:
        logits = logits / temperature
    return -torch.nn.functional.cross_entropy(logits, targets, reduction="none")


_HEADS: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()


def plain_head(model: Any) -> tuple[Any, torch.Tensor] | tuple[None, None]:
    """The model without its last layer, and that layer's matrix (V, width).

    (None, None) where logits are more than matrix times state (a bias, a soft cap, a scale):
    tried once per model on two tokens, not guessed from its name.
    """
    body, head = model.get_decoder(), model.get_output_embeddings()
    if model not in _HEADS:
        _HEADS[model] = _is_plain(model, body, head)
    return (body, head.weight) if _HEADS[model] else (None, None)


@torch.no_grad()
def _is_plain(model: Any, body: Any, head: Any) -> bool:
    if body is None or head is None or type(head) is not torch.nn.Linear or head.bias is not None:
        return False
    was_training = model.training
    model.eval()
    tokens = torch.tensor([[0, 1]], device=head.weight.device)
    logits = model(input_ids=tokens, use_cache=False).logits
    by_hand = head(body(input_ids=tokens, use_cache=False).last_hidden_state)
    model.train(was_training)
    return torch.equal(logits, by_hand)


class AnswerLogps:
    """Log-probabilities of answers under a model as it is now, micro-batch by micro-batch.

    rows  all that will be asked for: they have prompt_ids and answer_ids (learn.batching.Row)
    n_real, n_computed  tokens read so far, and rows of the model's products for that
    fast.answer_logps may give another one with the same results.
    """

    def __init__(self, model: Any, rows: Sequence[Any], pad_id: int, temperature: float):
        self.model, self.temperature = model, temperature
        self.n_real = self.n_computed = 0

    def of(self, rows: Sequence[Any], batch: Any) -> torch.Tensor:
        """(B, L-1), 0 outside the answers; batch holds the same rows, padded on the right."""
        lengths = [len(row.prompt_ids) + len(row.answer_ids) for row in rows]
        self.n_real += sum(lengths)
        self.n_computed += len(rows) * max(lengths)
        how = {"response_mask": batch.response_mask, "temperature": self.temperature}
        return token_logps(self.model, batch.token_ids, **how)

    def backward(self) -> None:
        """What is left to do after the backward pass of the last micro-batch: here nothing."""
