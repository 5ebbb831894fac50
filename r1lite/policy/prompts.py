"""Reading each prompt once for the whole group, in rollouts and in training.

The answers to a problem share its prompt. Its keys and values are computed once and handed to
every answer; in training their gradients are gathered and sent back through the prompt once.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicCache

from .logprobs import answer_logps, cross_entropy_logps, plain_head
from .packed import PackedAnswers
from .written import fits, pairs_of


def read_prompts(
    model: Any, prompts: Sequence[Sequence[int]], pad_id: int, cache: Cache
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fill an empty cache with P prompts, padded on the left to one width S.

    Returns the logits (P, V) of each prompt's last token and the mask (P, S), True on its tokens.
    """
    width = max(map(len, prompts))
    pads = [width - len(prompt) for prompt in prompts]
    device = model.device
    tokens = torch.tensor([[pad_id] * n + [*p] for n, p in zip(pads, prompts)], device=device)
    mask = torch.tensor([[0] * n + [1] * (width - n) for n in pads], device=device)
    inputs = {
        "input_ids": tokens,
        "attention_mask": mask,
        "position_ids": (mask.cumsum(-1) - 1).clamp(min=0),
        "past_key_values": cache,
        "use_cache": True,
    }
    body, weight = plain_head(model)
    if body is None:
        return model(**inputs, logits_to_keep=1).logits[:, -1], mask.bool()
    # a flat product, which is the same to the last bit with and without gradients
    last = body(**inputs).last_hidden_state[:, -1]
    return torch.nn.functional.linear(last, weight), mask.bool()


class SharedPrompts:
    """Prompts as a model reads them now; log-probabilities of answers to them; one way back.

    The graph is cut between prompts and answers: answers see leaves. Each micro-batch's backward
    leaves its gradient there, and backward() takes the sum through the prompts.
    prompts  name -> tokens; answers give the name of theirs
    """

    def __init__(self, model: Any, prompts: Mapping[Any, Sequence[int]], pad_id: int):
        self.model = model
        self.row_of = {name: i for i, name in enumerate(prompts)}
        cache = DynamicCache(config=model.config)
        logits, self.mask = read_prompts(model, list(prompts.values()), pad_id, cache)
        self.packed, pairs = PackedAnswers(model), pairs_of(model)
        states = [x for layer in cache.layers for x in (layer.keys[..., pairs], layer.values)]
        self._outputs = [logits, *states]
        self._leaves = [x.detach().requires_grad_(x.requires_grad) for x in self._outputs]

    def token_logps(
        self,
        names: Sequence[Any],
        token_ids: torch.Tensor,
        response_mask: torch.Tensor,
        *,
        temperature: float = 1.0,
    ) -> torch.Tensor:
        """What logprobs.token_logps returns, (B, L-1), with 0 outside the mask.

        names          of the B prompts that the rows of token_ids (B, L) begin with
        response_mask  (B, L-1) True where token l + 1 belongs to the answer
        """
        rows = torch.tensor([self.row_of[name] for name in names])
        n_prompt = self.mask.sum(-1)[rows, None]
        n_answer = response_mask.sum(-1, keepdim=True)
        place = torch.arange(int(n_answer.max()))[None]
        written = place < n_answer  # (B, T)
        answers = token_ids.gather(1, (n_prompt + place).clamp(max=token_ids.shape[1] - 1))
        # a prompt's last token speaks of the first token of an answer
        first = self._leaves[0].index_select(0, rows)
        logps = first.new_zeros(answers.shape)
        logps[:, 0] = cross_entropy_logps(first, answers[:, 0], temperature)
        if answers.shape[1] > 1:
            what, after = (answers[:, :-1], (n_prompt + place)[:, :-1]), written[:, 1:]
            states = list(zip(self._leaves[1::2], self._leaves[2::2]))
            hidden = self.packed(*what, after, states, rows, self.mask[rows])[None]
            head, said = self.model.lm_head.weight, answers[:, 1:][after][None]
            found = answer_logps(hidden, head, said, None, temperature)
            logps[:, 1:] = logps[:, 1:].masked_scatter(after, found)
        return logps.new_zeros(response_mask.shape).masked_scatter(response_mask, logps[written])

    def backward(self) -> None:
        """Send what the answers left on the prompts' states back through the prompts, and what they
        left on joined matrices back to the weights."""
        outputs = self._outputs + self.packed.parts
        pairs = zip(outputs, self._leaves + self.packed.leaves)
        used = [(x, leaf.grad) for x, leaf in pairs if leaf.grad is not None]
        if used:
            torch.autograd.backward(*zip(*used))


def shares_prompts(model: Any) -> bool:
    """Whether SharedPrompts fits this model: what is written out computes the same, layers keep
    their keys (checkpointed ones do not), and weights are whole until the last backward."""
    checkpoints = getattr(model, "is_gradient_checkpointing", False)
    plain = fits(model) and plain_head(model)[0] is not None
    return plain and not checkpoints and not hasattr(model, "compute_logps")
