"""Reading each prompt once for the whole group, in rollouts and in training.

The answers to a problem share its prompt. Its keys and values are computed once and handed to
every answer; in training their gradients are gathered and sent back through the prompt once.
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicCache

from .attention import can_share_keys, mask_of, shared_keys
from .logprobs import answer_logps, cross_entropy_logps, forward_logps, plain_head
from .packed import PackedAnswers
from .products import fast_products
from .savings import saves
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
    """

    def __init__(self, model: Any, prompts: Sequence[tuple[int, ...]], pad_id: int):
        self.model = model
        self.row_of = {prompt: i for i, prompt in enumerate(dict.fromkeys(prompts))}
        cache = DynamicCache(config=model.config)
        with fast_products(model):
            logits, self.mask = read_prompts(model, list(self.row_of), pad_id, cache)
        self._outputs, self.packed = [logits], None
        wanted = saves("written_out_training") and saves("shared_keys")
        if wanted and fits(model) and plain_head(model)[0] is not None:
            self.packed = PackedAnswers(model)
        order = ... if self.packed is None else (..., pairs_of(model))
        for layer in cache.layers:
            self._outputs += [layer.keys[order], layer.values]
        self._leaves = [x.detach().requires_grad_(x.requires_grad) for x in self._outputs]

    def token_logps(
        self,
        prompts: Sequence[tuple[int, ...]],
        token_ids: torch.Tensor,
        response_mask: torch.Tensor,
        *,
        temperature: float = 1.0,
    ) -> torch.Tensor:
        """What logprobs.token_logps returns, (B, L-1), with 0 outside the mask.

        prompts        the B prompts that the rows of token_ids (B, L) begin with
        response_mask  (B, L-1) True where token l + 1 belongs to the answer
        """
        device = token_ids.device
        rows = torch.tensor([self.row_of[prompt] for prompt in prompts], device=device)
        n_prompt = torch.tensor([len(prompt) for prompt in prompts], device=device)[:, None]
        n_answer = response_mask.sum(-1, keepdim=True)
        place = torch.arange(int(n_answer.max()), device=device)[None]
        written = place < n_answer  # (B, T)
        answers = token_ids.gather(1, (n_prompt + place).clamp(max=token_ids.shape[1] - 1))
        # a prompt's last token speaks of the first token of an answer
        first = self._leaves[0].index_select(0, rows)
        logps = cross_entropy_logps(first, answers[:, 0], temperature)[:, None]
        if answers.shape[1] > 1:
            tokens, position = answers[:, :-1], n_prompt + place[:, :-1]
            read = self._through if self.packed is None else self._of_packed
            rest = read(tokens, position, written[:, 1:], answers[:, 1:], rows, temperature)
            logps = torch.cat([logps, rest], -1)
        return logps.new_zeros(response_mask.shape).masked_scatter(response_mask, logps[written])

    def _of_packed(self, tokens, position, written, targets, rows, temperature) -> torch.Tensor:
        states = list(zip(self._leaves[1::2], self._leaves[2::2]))
        hidden = self.packed(tokens, position, written, states, rows, self.mask[rows])
        with fast_products(self.model):
            head, wanted = self.model.lm_head.weight, targets[written]
            found = answer_logps(hidden[None], head, wanted[None], None, temperature)
        return found.new_zeros(tokens.shape).masked_scatter(written, found)

    def _through(self, tokens, position, written, targets, rows, temperature) -> torch.Tensor:
        n, before = tokens.shape[1], self.mask[rows][:, None, None]  # (B, 1, 1, S)
        causal = torch.ones(n, n, dtype=torch.bool, device=tokens.device).tril()
        causal = causal.expand(len(rows), 1, n, n)
        allowed = torch.cat([before.expand(-1, 1, n, -1), causal], -1)
        with shared_keys(self.model), fast_products(self.model):
            return forward_logps(
                self.model,
                targets,
                written,
                temperature,
                input_ids=tokens,
                attention_mask=mask_of(self.model, allowed),
                position_ids=position,
                past_key_values=self._cache(rows),
                use_cache=True,
            )

    def _cache(self, rows: torch.Tensor) -> DynamicCache:
        cache = DynamicCache(config=self.model.config)
        states = iter(self._leaves[1:])
        for i, (keys, values) in enumerate(zip(states, states)):
            # its gradient is one sum per prompt; that of keys[rows] would be sorted first
            cache.update(keys.index_select(0, rows), values.index_select(0, rows), i)
        return cache

    def backward(self) -> None:
        """Send what the answers left on the prompts' states back through the prompts."""
        outputs, leaves = self._outputs, self._leaves
        if self.packed is not None:
            outputs, leaves = outputs + self.packed.parts, leaves + self.packed.leaves
        pairs = zip(outputs, leaves)
        used = [(x, leaf.grad) for x, leaf in pairs if leaf.grad is not None]
        if used:
            torch.autograd.backward(*zip(*used))


def shares_prompts(model: Any) -> bool:
    """Whether SharedPrompts fits this model: checkpointed layers keep no keys, and weights in
    slices are taken apart before the last backward."""
    checkpoints = getattr(model, "is_gradient_checkpointing", False)
    return can_share_keys(model) and not checkpoints and not hasattr(model, "compute_logps")
