"""One more token for every row: through transformers, or written out for Qwen2 and Llama."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import silu

from .attention import can_share_keys, mask_of, shared_keys
from .cache import make_cache
from .products import by_onednn, takes_onednn
from .prompts import read_prompts
from .savings import saves
from .written import fits, in_pairs, joined, normed, pairs_of, turns_of


def start_decoding(
    model: Any, prompts: Sequence[Sequence[int]], n_answers: int, pad_id: int
) -> tuple[torch.Tensor, Through | WrittenOut]:
    """Read the prompts. Returns the logits (B, V) of the first answer tokens and a decoder.

    Rows are ordered by prompt: the n_answers rows of the first one, then those of the second.
    """
    cache, once = make_cache(model), saves("prompt_once_in_rollout")
    if not once:
        prompts = [prompt for prompt in prompts for _ in range(n_answers)]
    logits, seen = read_prompts(model, prompts, pad_id, cache)
    if once:
        cache.batch_repeat_interleave(n_answers)
        logits, seen = (x.repeat_interleave(n_answers, 0) for x in (logits, seen))
    written_out = saves("written_out") and fits(model)
    return logits, (WrittenOut if written_out else Through)(model, cache, seen)


class Through:
    """Decoding through the model's own forward pass and a cache of keys and values.

    seen  (B, S) True where a cached position is a token of the prompt and not padding
    """

    def __init__(self, model: Any, cache: Any, seen: torch.Tensor):
        self.model, self.cache, self.seen = model, cache, seen
        self.position = seen.sum(-1, keepdim=True)

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Append tokens (B,); returns the logits (B, V) of the next ones."""
        self.seen = torch.cat([self.seen, self.seen.new_ones(len(tokens), 1)], -1)
        inputs = {
            "input_ids": tokens[:, None],
            "position_ids": self.position,
            "past_key_values": self.cache,
            "use_cache": True,
        }
        if can_share_keys(self.model):
            with shared_keys(self.model):
                mask = mask_of(self.model, self.seen[:, None, None])
                out = self.model(attention_mask=mask, **inputs)
        else:
            out = self.model(attention_mask=self.seen.long(), **inputs)
        self.position = self.position + 1
        return out.logits[:, -1]

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these rows only, in this order."""
        self.cache.batch_select_indices(rows)
        self.seen, self.position = self.seen[rows], self.position[rows]


class WrittenOut:
    """The same for Qwen2 and Llama in plain tensors (written.py): about a fourth of the calls.

    Weights are read when it is made, so a decoder lives for one rollout and never sees an update.
    """

    BLOCK = 64  # tokens by which the room for keys and values grows
    MANY, SOME = 128, 32  # rows from which on oneDNN is faster; the second with wide matrices

    def __init__(self, model: Any, cache: Any, seen: torch.Tensor):
        config, body, pairs = model.config, model.model, pairs_of(model)
        self.heads, self.shared = config.num_attention_heads, config.num_key_value_heads
        self.width, self.eps = len(pairs), torch.tensor(config.rms_norm_eps, dtype=model.dtype)
        self.embedding, self.turns = body.embed_tokens.weight, turns_of(model)
        self.layers = [  # transposed in memory, too: oneDNN reads them so a third faster
            tuple(x if x is None else x.t().contiguous() for x in joined(layer, pairs))
            for layer in body.layers
        ]
        self.head = (model.lm_head.weight * body.norm.weight).t().contiguous()
        self.held = seen.shape[1]
        self.rooms = [  # of keys and values (2, B K, S, D), full: the first step makes room
            torch.stack([x.keys[..., pairs], x.values]).flatten(1, 2) for x in cache.layers
        ]
        self.position = seen.sum(-1)
        hidden = torch.zeros(seen.shape, dtype=model.dtype, device=seen.device)
        hidden = hidden.masked_fill(~seen, -torch.inf).repeat_interleave(self.shared, 0)
        self.hidden = hidden[:, None]  # (B K, 1, S): -inf where a prompt is padded

    def _room(self, states: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """These rows of keys and values (2, B K, held, D), with room for a block more."""
        n, _, _, width = states.shape
        room = states.new_empty(n, len(rows), self.held + self.BLOCK, width)
        torch.index_select(states[:, :, : self.held], 1, rows, out=room[:, :, : self.held])
        return room

    def _times(
        self, x: torch.Tensor, matrix: torch.Tensor, plus: torch.Tensor | None = None
    ) -> torch.Tensor:
        """x (B, K) times matrix (K, N), plus (N,) or (B, N)."""
        many = self.SOME if matrix.shape[1] >= 4 * matrix.shape[0] else self.MANY
        fast = len(x) >= many and takes_onednn()
        with by_onednn() if fast else contextlib.nullcontext():
            return x @ matrix if plus is None else torch.addmm(plus, x, matrix)

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Append tokens (B,); returns the logits (B, V) of the next ones."""
        if self.held == self.rooms[0].shape[2]:
            self.keep(torch.arange(len(tokens)))
        if self.held == self.hidden.shape[2]:
            self.hidden = torch.nn.functional.pad(self.hidden, (0, self.BLOCK))
        batch, new, heads, shared = len(tokens), self.held, self.heads, self.shared
        self.held += 1
        turns = self.turns.index_select(0, self.position)[:, None]
        self.position = self.position + 1
        hidden = self.hidden[:, :, : self.held]
        read_rows = (self.first_rows + torch.arange(self.held)).flatten()
        bags = torch.arange(0, len(read_rows), self.held)
        x = self.embedding.index_select(0, tokens)
        for (qkv, qkv_bias, out, gate_up, down), room in zip(self.layers, self.rooms):
            states = self._times(normed(x, self.eps)[0], qkv, qkv_bias)
            states = states.view(batch, heads + 2 * shared, self.width)
            in_pairs(states[:, : heads + shared]).mul_(turns)
            query = states[:, :heads].reshape(batch * shared, -1, self.width)
            both = states[:, heads:].unflatten(1, (2, shared)).transpose(0, 1)
            room[:, :, new].unflatten(1, (batch, shared)).copy_(both)
            keys, values = room[0, :, : self.held], room[1].flatten(0, 1)
            weights = torch.baddbmm(hidden, query, keys.transpose(1, 2)).softmax(-1).flatten()
            # sums of rows of a table, weighted: attention is that, and this kernel does not wait
            # for memory as a batch of products does in which each has a row or two
            read = torch.embedding_bag(values, read_rows, bags, False, 0, False, weights)[0]
            x = self._times(read.view(batch, -1), out, plus=x)
            gate, up = self._times(normed(x, self.eps)[0], gate_up).chunk(2, -1)
            x = self._times(silu(gate) * up, down, plus=x)
        return self._times(normed(x, self.eps)[0], self.head)

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these rows only, in this order."""
        self.position = self.position[rows]
        pairs = (rows[:, None] * self.shared + torch.arange(self.shared)).flatten()
        self.rooms = [self._room(room, pairs) for room in self.rooms]
        self.hidden = self.hidden.index_select(0, pairs)
        each = torch.arange(len(pairs)).repeat_interleave(self.heads // self.shared)
        self.first_rows = each[:, None] * self.rooms[0].shape[2]  # of what a query head reads
