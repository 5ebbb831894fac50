"""Answers read in training, one behind the other: no product sees padding (Qwen2 and Llama, CPU).

A micro-batch's tokens stand packed in N rows wherever a token is computed alone, and in a grid of
answers only where one token looks at others.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import bmm
from torch.nn.functional import embedding, linear, pad, silu

from .fused import as_complex, fuse_weights, pair_order, rms_norm, rope_at, rope_table

AT_ONCE = 32  # places of an answer that look back together; later keys are left out for them
# Attention here holds a score for every pair of places, which grows with the square of the length;
# the plain pass takes a kernel that holds none.
PACK_UP_TO = 1024  # tokens of prompt and answer


class Layout:
    """Where the n tokens of a micro-batch stand: in n + 1 rows, and in a grid of B answers x T.

    There are K key heads with G query heads each. The last row is a dummy, and one place of the
    grid at least is empty in every answer: each stands in for whatever the other lacks. Nothing
    reads what they hold, so their gradient is exactly 0.

    place      (n,) where each token stands in the grid
    to_grid    which packed heads (n + 1, K G + 2 K) go to queries (B K, T G), keys, values (B K, T)
    from_grid  (n + 1, K G + 2 K) the way back; what attention read, (B K, T G), goes as queries do
    read_to    which packed heads (n + 1, K G) go to each place of what attention read
    parts      of each part of the grid its queries, and how many keys they may see
    mask       (B, 1, T G, S + T) added to scores: the smallest number where none may look
    """

    def __init__(self, written: Any, seen: Any, config: Any, dtype: torch.dtype):
        written = pad(written, (0, 1))  # (B, T) True where there is a token
        (n_answers, n_places), n_prompt = written.shape, seen.shape[1]
        self.n_heads, n_kv_heads = config.num_attention_heads, config.num_key_value_heads
        each, every = self.n_heads // n_kv_heads, self.n_heads + 2 * n_kv_heads
        self.place = written.flatten().nonzero()[:, 0]
        n = len(self.place)
        row = torch.full(written.shape, n).masked_scatter(written, torch.arange(n))[:, None]
        head = torch.arange(self.n_heads).view(n_kv_heads, 1, each)
        query = row[..., None] * every + head  # (B, K, T, G)
        key = row * every + self.n_heads + 2 * torch.arange(n_kv_heads)[:, None]  # (B, K, T)
        self.sizes = query.numel(), key.numel(), key.numel()
        self.to_grid = torch.cat([x.flatten() for x in (query, key, key + 1)])
        self.read_to = (row[..., None] * self.n_heads + head).flatten()
        place = pad(self.place, (0, 1), value=n_places - 1)[:, None]
        key = place // n_places * n_kv_heads + torch.arange(n_kv_heads)  # (N, K) row of the grid
        key = key * n_places + place % n_places
        query = (key[:, :, None] * each + torch.arange(each)).flatten(1)
        both = torch.stack([key, key + self.sizes[1]], -1).flatten(1) + self.sizes[0]
        self.from_grid = torch.cat([query, both], 1)
        n_parts = max(round(n_places / AT_ONCE), 1)
        ends = [i * n_places // n_parts for i in range(n_parts + 1)]
        self.parts = [(slice(a * each, b * each), n_prompt + b) for a, b in zip(ends, ends[1:])]
        causal = torch.ones(n_places, n_places, dtype=torch.bool).tril()
        sights = (x.expand(n_answers, 1, n_places, -1) for x in (seen[:, None, None], causal))
        unseen = torch.cat(list(sights), -1).logical_not_().repeat_interleave(each, 2)
        self.mask = unseen.to(dtype).mul_(torch.finfo(dtype).min)


class _Moved(torch.autograd.Function):
    """The rows `to` of x (..., D) -> (rows, D); the rows `back` of the gradient go to x."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, to: torch.Tensor, back: torch.Tensor):
        ctx.back, ctx.shape = back.flatten(), x.shape
        return x.view(-1, x.shape[-1]).index_select(0, to.flatten())

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor):
        return grad.index_select(0, ctx.back).view(ctx.shape), None, None


class _Attention(torch.autograd.Function):
    """Queries (R, T G, D) look at keys and read values (R, S + T, D) -> (R, T G, D)."""

    @staticmethod
    def forward(ctx: Any, query, keys, values, mask, parts):
        weights, read = [], []
        for part, seen in parts:
            scores = bmm(query[:, part], keys[:, :seen].transpose(1, 2))
            scores.unflatten(0, (len(mask), -1)).add_(mask[:, :, part, :seen])
            weights.append(scores.softmax(-1))
            read.append(bmm(weights[-1], values[:, :seen]))
        ctx.save_for_backward(query, keys, values, *weights)
        ctx.parts = parts
        return torch.cat(read, 1)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor):
        query, keys, values, *weights = ctx.saved_tensors
        to_query, to_keys, to_values = [], torch.zeros_like(keys), torch.zeros_like(values)
        for (part, seen), weight in zip(ctx.parts, weights):
            slope = bmm(grad[:, part], values[:, :seen].transpose(1, 2))
            slope = torch.ops.aten._softmax_backward_data(slope, weight, -1, weight.dtype)
            to_query.append(bmm(slope, keys[:, :seen]))
            to_keys[:, :seen] += bmm(slope.transpose(1, 2), query[:, part])
            to_values[:, :seen] += bmm(weight.transpose(1, 2), grad[:, part])
        return torch.cat(to_query, 1), to_keys, to_values, None, None


class PackedAnswers:
    """Answers read behind prompts whose keys and values are there, in training.

    parts   every fused matrix, made once an update; after the last backward their gradients go
            back through them to the weights
    leaves  the same cut off from that, as the answers of each micro-batch see them
    """

    def __init__(self, model: Any):
        self.model, pairs = model, pair_order(model)
        self.rope = rope_table(model)
        layers = [fuse_weights(layer, pairs) for layer in model.model.layers]
        self.parts = [part for layer in layers for part in layer if part is not None]
        self.eps = self.parts[0].new_tensor(model.config.rms_norm_eps)
        self.leaves = [part.detach().requires_grad_(part.requires_grad) for part in self.parts]
        leaves = iter(self.leaves)
        self.layers = [[None if x is None else next(leaves) for x in layer] for layer in layers]

    def __call__(
        self,
        tokens: torch.Tensor,
        position: torch.Tensor,
        written: torch.Tensor,
        before: Sequence[tuple[torch.Tensor, torch.Tensor]],
        rows: torch.Tensor,
        seen: torch.Tensor,
    ) -> torch.Tensor:
        """Last hidden states (n, width), before the head, of the n tokens that are written.

        tokens, position, written  (B, T) answers, where each token stands, and which are there
        before  of each layer the keys, in pairs, and values (P, K, S, D) of the prompts
        rows    (B,) which prompt each answer follows; seen: (B, S) False where that is padded
        """
        body, width, eps = self.model.model, 2 * self.rope.shape[1], self.eps
        embeddings = body.embed_tokens.weight
        layout = Layout(written, seen, self.model.config, embeddings.dtype)
        n_kv_heads = before[0][0].shape[1]
        n_grid = len(rows) * n_kv_heads
        position = pad(position, (0, 1)).flatten()[layout.place]
        rotations = rope_at(self.rope, pad(position, (0, 1)), layout.n_heads, n_kv_heads)
        tokens = pad(tokens, (0, 1)).flatten()[layout.place]
        x = pad(embedding(tokens, embeddings), (0, 0, 0, 1))
        for (qkv, bias, out, gate_up, down), states in zip(self.layers, before):
            heads = linear(rms_norm(x, eps), qkv, bias).unflatten(-1, (-1, width))
            heads = torch.view_as_real(as_complex(heads) * rotations).flatten(-2)
            grid = _Moved.apply(heads, layout.to_grid, layout.from_grid)
            query, *new = (part.view(n_grid, -1, width) for part in grid.split(layout.sizes))
            keys, values = (
                torch.cat([old.index_select(0, rows).flatten(0, 1), part], 1)
                for old, part in zip(states, new)
            )
            read = _Attention.apply(query, keys, values, layout.mask, layout.parts)
            read = _Moved.apply(read, layout.from_grid[:, : layout.n_heads], layout.read_to)
            x = x + linear(read.view(len(x), -1), out)
            gate, up = linear(rms_norm(x, eps), gate_up).chunk(2, -1)
            x = x + linear(silu(gate) * up, down)
        return (rms_norm(x, eps) * body.norm.weight)[:-1]
