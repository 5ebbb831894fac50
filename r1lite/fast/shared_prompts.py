"""Reading each prompt once for its whole group in training.

The answers to a problem share its prompt. Its keys and values are computed once and handed to
every answer; their gradients are gathered and sent back through the prompt once.
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import DynamicCache

from ..policy.logprobs import AnswerLogps, answer_logps, cross_entropy_logps, plain_head
from ..policy.sample import read_prompts
from .fused import pair_order, supports_fused
from .packed import PackedAnswers


def supports_packed(model: Any) -> bool:
    """Whether PackedLogps fits this model: its fused form computes the same, layers keep their keys
    (checkpointed ones do not), and weights are whole until the last backward."""
    checkpoints = getattr(model, "is_gradient_checkpointing", False)
    plain = supports_fused(model) and plain_head(model)[0] is not None
    return plain and not checkpoints and not hasattr(model, "compute_logps")


class PackedLogps(AnswerLogps):
    """Log-probabilities of answers, prompts read once and answers packed.

    The graph is cut between prompts and answers: answers see leaves. Each micro-batch's backward
    leaves its gradient there, and backward() takes the sum through the prompts.
    """

    def __init__(self, model: Any, rows: Sequence[Any], pad_id: int, temperature: float):
        super().__init__(model, rows, pad_id, temperature)
        prompts = list(dict.fromkeys(tuple(row.prompt_ids) for row in rows))
        self.place = {prompt: i for i, prompt in enumerate(prompts)}
        cache = DynamicCache(config=model.config)
        logits, self.mask = read_prompts(model, prompts, pad_id, cache)
        self.n_real, self.n_computed = int(self.mask.sum()), self.mask.numel()
        self.packed, pairs = PackedAnswers(model), pair_order(model)
        states = [x for layer in cache.layers for x in (layer.keys[..., pairs], layer.values)]
        self._outputs = [logits, *states]
        self._leaves = [x.detach().requires_grad_(x.requires_grad) for x in self._outputs]

    def of(self, rows: Sequence[Any], batch: Any) -> torch.Tensor:
        """(B, L-1), 0 outside the answers; batch holds the same rows."""
        prompt = torch.tensor([self.place[tuple(row.prompt_ids)] for row in rows])
        n_prompt = self.mask.sum(-1)[prompt, None]
        n_answer = batch.response_mask.sum(-1, keepdim=True)
        place = torch.arange(int(n_answer.max()))[None]
        written = place < n_answer  # (B, T)
        last = batch.token_ids.shape[1] - 1
        answers = batch.token_ids.gather(1, (n_prompt + place).clamp(max=last))
        # a prompt's last token speaks of the first token of an answer
        first = self._leaves[0].index_select(0, prompt)
        logps = first.new_zeros(answers.shape)
        logps[:, 0] = cross_entropy_logps(first, answers[:, 0], self.temperature)
        if answers.shape[1] > 1:
            after = written[:, 1:]
            inputs = answers[:, :-1], (n_prompt + place)[:, :-1], after
            states = list(zip(self._leaves[1::2], self._leaves[2::2]))
            hidden = self.packed(*inputs, states, prompt, self.mask[prompt])[None]
            head, targets = self.model.lm_head.weight, answers[:, 1:][after][None]
            rest = answer_logps(hidden, head, targets, None, self.temperature)
            logps[:, 1:] = logps[:, 1:].masked_scatter(after, rest)
        n = int(n_answer.sum())
        self.n_real, self.n_computed = self.n_real + n, self.n_computed + n + 1
        mask = batch.response_mask
        return logps.new_zeros(mask.shape).masked_scatter(mask, logps[written])

    def backward(self) -> None:
        """Send what the answers left on the prompts' states back through the prompts, and what they
        left on fused matrices back to the weights."""
        outputs = self._outputs + self.packed.parts
        pairs = zip(outputs, self._leaves + self.packed.leaves)
        used = [(x, leaf.grad) for x, leaf in pairs if leaf.grad is not None]
        if used:
            torch.autograd.backward(*zip(*used))
