"""One more token for every row: through transformers, or written out for Qwen2 and Llama."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import silu
from transformers.cache_utils import DynamicCache

from .products import by_onednn, takes_onednn
from .prompts import read_prompts
from .savings import saves
from .written import fits, in_pairs, joined, normed, pairs_of, turns_at, turns_of


def start_decoding(
    model: Any, prompts: Sequence[Sequence[int]], group_size: int, pad_id: int
) -> tuple[torch.Tensor, Through | WrittenOut]:
    """Read the prompts. Returns the logits of the first answer tokens and a decoder.

    It has a row for every prompt where rows are cheap to copy, as answers that begin alike need but
    one; else one for every answer, ordered by prompt: group_size of the first, then of the second.
    """
    cache, once = DynamicCache(config=model.config), saves("prompt_once_in_rollout")
    written_out, n_rows = saves("written_out") and fits(model), len(prompts) * group_size
    if not once:
        prompts = [prompt for prompt in prompts for _ in range(group_size)]
    logits, seen = read_prompts(model, prompts, pad_id, cache)
    if once and not (written_out and saves("alike_once")):
        cache.batch_repeat_interleave(group_size)
        logits, seen = (x.repeat_interleave(group_size, 0) for x in (logits, seen))
    if not written_out:
        return logits, Through(model, cache, seen)
    return logits, WrittenOut(model, cache, seen, n_rows)


class Through:
    """Decoding through the model's own forward pass and a cache of keys and values.

    seen  (B, S) True where a cached position is a token of the prompt and not padding
    """

    COMPACT_BELOW = 0.85  # drop finished rows once no more than this share would remain

    def __init__(self, model: Any, cache: Any, seen: torch.Tensor):
        self.model, self.cache, self.seen = model, cache, seen
        self.position = seen.sum(-1, keepdim=True)

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Append tokens (B,); returns the logits (B, V) of the next ones."""
        self.seen = torch.cat([self.seen, self.seen.new_ones(len(tokens), 1)], -1)
        out = self.model(
            input_ids=tokens[:, None],
            attention_mask=self.seen.long(),
            position_ids=self.position,
            past_key_values=self.cache,
            use_cache=True,
        )
        self.position = self.position + 1
        return out.logits[:, -1]

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these rows only, in this order."""
        self.cache.batch_select_indices(rows)
        self.seen, self.position = self.seen[rows], self.position[rows]


class WrittenOut:
    """The same for Qwen2 and Llama in plain tensors (written.py): about a fourth of the calls.

    Weights are read when it is made, so a decoder lives for one rollout and never sees an update.
    at_most  rows that there can ever be: keys and values have room for them
    """

    COMPACT_BELOW = 1.0  # at once, as only rows that move are copied
    BLOCK = 64  # tokens by which the room for keys and values grows
    MANY, SOME = 128, 32  # rows from which on oneDNN is faster; the second with wide matrices

    def __init__(self, model: Any, cache: Any, seen: torch.Tensor, at_most: int):
        config, body, pairs = model.config, model.model, pairs_of(model)
        self.heads, self.shared = config.num_attention_heads, config.num_key_value_heads
        self.width, self.eps = len(pairs), torch.tensor(config.rms_norm_eps, dtype=model.dtype)
        self.embedding, self.turns = body.embed_tokens.weight, turns_of(model)
        self.layers = [  # transposed in memory, too: oneDNN reads them so a third faster
            tuple(x if x is None else x.t().contiguous() for x in joined(layer, pairs))
            for layer in body.layers
        ]
        self.head = (model.lm_head.weight * body.norm.weight).t().contiguous()
        self.held, self.at_most = seen.shape[1], at_most
        self.position, self.hidden = seen.sum(-1), None
        if not seen.all():  # (B K, 1, S): -inf where a prompt is padded
            hidden = torch.zeros(seen.shape, dtype=model.dtype).masked_fill_(~seen, -torch.inf)
            self.hidden = hidden.repeat_interleave(self.shared, 0)[:, None]
        states = [(x.keys[..., pairs], x.values) for x in cache.layers]
        self._make_room([torch.stack(both, 2).flatten(1, 2) for both in states])

    def _make_room(self, states: list[torch.Tensor]) -> None:
        """Room for a block more of keys and values (B, 2 K, held, D), and for rows to come."""
        n, many, _, width = states[0].shape
        length = self.held + self.BLOCK
        places = torch.arange(length)[: len(self.turns)]  # no prompt with its answer needs more
        self.turned = turns_at(self.turns, places, self.heads, self.shared)
        self.rooms = [x.new_empty(self.at_most, many, length, width) for x in states]
        for room, old in zip(self.rooms, states):
            room[:n, :, : self.held] = old[:, :, : self.held]
        self._read(n)
        each = torch.arange(self.at_most * self.shared) * 2 + 1  # values stand behind their keys
        each = each.repeat_interleave(self.heads // self.shared)
        self.first_rows = each[:, None] * length  # of what a query head reads

    def _read(self, n: int) -> None:
        """Look at n rows only: keys and values, keys (n K, D, S), all of them as one table."""
        self.live = [
            (room[:n], room[:n].flatten(0, 1)[::2].transpose(1, 2), room.flatten(0, 2))
            for room in self.rooms
        ]

    def _times(
        self, x: torch.Tensor, matrix: torch.Tensor, plus: torch.Tensor | None = None
    ) -> torch.Tensor:
        """x (B, K) times matrix (K, N), plus (N,), or added to plus (B, N) in place."""
        many = self.SOME if matrix.shape[1] >= 4 * matrix.shape[0] else self.MANY
        fast = len(x) >= many and takes_onednn()
        with by_onednn() if fast else contextlib.nullcontext():
            if plus is None:
                return torch.mm(x, matrix)
            return torch.addmm(plus, x, matrix) if plus.dim() == 1 else plus.addmm_(x, matrix)

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Append tokens (B,); returns the logits (B, V) of the next ones."""
        if self.held == self.rooms[0].shape[2]:
            self._make_room([both for both, _, _ in self.live])
        batch, new, heads, shared = len(tokens), self.held, self.heads, self.shared
        self.held += 1
        turns = self.turned.index_select(0, self.position)
        self.position = self.position + 1
        read_rows = (self.first_rows[: batch * heads] + torch.arange(self.held)).flatten()
        bags = torch.arange(0, len(read_rows), self.held)
        x = self.embedding.index_select(0, tokens)
        for (qkv, qkv_bias, out, gate_up, down), (both, keys, table) in zip(self.layers, self.live):
            states = self._times(normed(x, self.eps)[0], qkv, qkv_bias)
            states = states.view(batch, -1, self.width)
            in_pairs(states).mul_(turns)
            query = states[:, :heads].reshape(batch * shared, -1, self.width)
            both.select(2, new).copy_(states[:, heads:])
            scores = torch.bmm(query, keys[:, :, : self.held])
            if self.hidden is not None:
                scores[..., : self.hidden.shape[2]] += self.hidden
            weights = scores.softmax(-1).flatten()
            # sums of rows of a table, weighted: attention is that, and this kernel does not wait
            # for memory as a batch of products does in which each has a row or two
            read = torch.embedding_bag(table, read_rows, bags, False, 0, False, weights)[0]
            x = self._times(read.view(batch, -1), out, plus=x)
            gate, up = self._times(normed(x, self.eps)[0], gate_up).chunk(2, -1)
            x = self._times(silu(gate) * up, down, plus=x)
        return self._times(normed(x, self.eps)[0], self.head)

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these rows, in this order; one can be there twice, and most stay in place."""
        self.position = self.position[rows]
        if self.hidden is not None:
            pairs = rows[:, None] * self.shared + torch.arange(self.shared)
            self.hidden = self.hidden[pairs.flatten()]
        to = (rows != torch.arange(len(rows))).nonzero()[:, 0]
        for room in self.rooms:
            held = room[:, :, : self.held]
            held[to] = held[rows[to]]
        self._read(len(rows))
