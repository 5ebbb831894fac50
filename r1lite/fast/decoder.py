"""One more token for every row with fused weights: about a fourth of the calls of the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import silu
from transformers.cache_utils import DynamicCache

from ..policy.load import Policy
from ..policy.sample import ROWS_AT_ONCE, HFDecoder, read_prompts, sample_answers
from ..records import Completion
from .fused import as_complex, fuse_weights, pair_order, rms_norm, rope_at, rope_table
from .optimizations import is_enabled


class FusedDecoder:
    """What policy.sample.HFDecoder does, for Qwen2 and Llama on a CPU.

    Weights are read when it is made, so a decoder lives for one rollout and never sees an update.
    """

    compact_below = 1.0  # at once, as only rows that move are copied
    block = 64  # tokens by which the KV cache grows

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]], group_size: int, pad_id: int):
        config, body, pairs = model.config, model.model, pair_order(model)
        cache = DynamicCache(config=config)
        logits, mask = read_prompts(model, prompts, pad_id, cache)
        self.logits, mask = (x.repeat_interleave(group_size, 0) for x in (logits, mask))
        self.n_heads, self.n_kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.width, self.eps = len(pairs), torch.tensor(config.rms_norm_eps, dtype=model.dtype)
        self.embedding, self.rope = body.embed_tokens.weight, rope_table(model)
        self.layers = [
            tuple(x if x is None else x.t().contiguous() for x in fuse_weights(layer, pairs))
            for layer in body.layers
        ]
        self.head = (model.lm_head.weight * body.norm.weight).t().contiguous()
        self.held, self.position = mask.shape[1], mask.sum(-1)
        self.attention_bias = None
        if not mask.all():  # (B K, 1, S): -inf where a prompt is padded
            bias = torch.zeros(mask.shape, dtype=model.dtype).masked_fill_(~mask, -torch.inf)
            self.attention_bias = bias.repeat_interleave(self.n_kv_heads, 0)[:, None]
        states = [torch.stack([x.keys[..., pairs], x.values], 2) for x in cache.layers]
        self._grow([x.flatten(1, 2).repeat_interleave(group_size, 0) for x in states])

    def _grow(self, states: list[torch.Tensor]) -> None:
        """A KV cache with room for a block more: (B, 2 K, held, D), keys and values alternating."""
        n, n_states, _, width = states[0].shape
        length = self.held + self.block
        positions = torch.arange(length)[: len(self.rope)]  # no prompt with its answer needs more
        self.rotations = rope_at(self.rope, positions, self.n_heads, self.n_kv_heads)
        self.kv_cache = [x.new_empty(n, n_states, length, width) for x in states]
        for cache, old in zip(self.kv_cache, states):
            cache[:, :, : self.held] = old[:, :, : self.held]
        self._look_at(n)
        values = torch.arange(n * self.n_kv_heads) * 2 + 1  # a value stands behind its key
        values = values.repeat_interleave(self.n_heads // self.n_kv_heads)
        self.first_rows = values[:, None] * length  # of what a query head reads

    def _look_at(self, n: int) -> None:
        """Views of n rows of each KV cache: all, keys (n K, D, length), a table of rows."""
        self.views = [
            (cache[:n], cache[:n].flatten(0, 1)[::2].transpose(1, 2), cache.flatten(0, 2))
            for cache in self.kv_cache
        ]

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Append tokens (B,); returns the logits (B, V) of the next ones."""
        batch, new, n_heads = len(tokens), self.held, self.n_heads
        if self.held == self.kv_cache[0].shape[2]:
            self._grow([cache[:batch] for cache in self.kv_cache])
        self.held += 1
        rotations = self.rotations.index_select(0, self.position)
        self.position = self.position + 1
        read_rows = (self.first_rows[: batch * n_heads] + torch.arange(self.held)).flatten()
        bags = torch.arange(0, len(read_rows), self.held)
        x = self.embedding.index_select(0, tokens)
        for (qkv, bias, out, gate_up, down), (cache, keys, table) in zip(self.layers, self.views):
            states = rms_norm(x, self.eps)
            states = states @ qkv if bias is None else torch.addmm(bias, states, qkv)
            states = states.view(batch, -1, self.width)
            as_complex(states).mul_(rotations)
            query = states[:, :n_heads].reshape(batch * self.n_kv_heads, -1, self.width)
            cache.select(2, new).copy_(states[:, n_heads:])
            scores = torch.bmm(query, keys[:, :, : self.held])
            if self.attention_bias is not None:
                scores[..., : self.attention_bias.shape[2]] += self.attention_bias
            weights = scores.softmax(-1).flatten()
            # sums of rows of a table, weighted: attention is that, and this kernel does not wait
            # for memory as a batch of products does in which each has a row or two
            read = torch.embedding_bag(table, read_rows, bags, False, 0, False, weights)[0]
            x = x.addmm_(read.view(batch, -1), out)
            gate, up = (rms_norm(x, self.eps) @ gate_up).chunk(2, -1)
            x = x.addmm_(silu(gate) * up, down)
        return rms_norm(x, self.eps) @ self.head

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these rows only, in this order; most of them stay in place."""
        self.position = self.position[rows]
        if self.attention_bias is not None:
            pairs = rows[:, None] * self.n_kv_heads + torch.arange(self.n_kv_heads)
            self.attention_bias = self.attention_bias[pairs.flatten()]
        to = (rows != torch.arange(len(rows))).nonzero()[:, 0]
        for cache in self.kv_cache:
            held = cache[:, :, : self.held]
            held[to] = held[rows[to]]
        self._look_at(len(rows))


@dataclass(frozen=True)
class FusedSampler:
    """An engine (policy.engine.Engine) that decodes with fused weights, in this process."""

    policy: Policy
    rows_at_once = ROWS_AT_ONCE

    def generate(self, *work: Any) -> list[Completion]:
        """What the policy itself would sample, to rounding."""
        decoder = FusedDecoder if is_enabled("fused_decoding") else HFDecoder
        return sample_answers(self.policy, *work, decoder=decoder)

    def update(self, model: Any) -> None:
        """Weights are the policy's own, read at each rollout."""

    def close(self) -> None:
        """Nothing is held."""
