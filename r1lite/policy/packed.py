"""Answers read in training, one behind the other: no product sees padding (Qwen2 and Llama, CPU).

A micro-batch's tokens stand packed in N rows wherever a token is computed alone, and in a grid of
answers only where one token looks at others. What has a short derivative says so itself. It is used
where `written.fits` says that it computes what the model does.
"""

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import bmm
from torch.nn.functional import embedding, pad, silu

from .products import BLOCK, Product, by_onednn, takes_onednn
from .savings import saves
from .written import joined, normed, pairs_of, turned, turns_at, turns_of

AT_ONCE = 32  # places of an answer that look back together; later keys are left out for them


def n_rows(n: int) -> int:
    """Rows in which n tokens are packed: whole blocks for oneDNN, with a dummy at least."""
    return (n // BLOCK + 1) * BLOCK


class Layout:
    """Where the n tokens of a micro-batch stand: in N > n rows, and in a grid of B answers x T.

    There are K key heads with G query heads each. Rows from n on are dummies, and one place of the
    grid at least is empty in every answer. Each stands in for whatever the other lacks: nothing
    reads what they hold, so their gradient is exactly 0. A token at which an answer is still like
    the one above it has no row: it has the other's keys and values, and nothing reads its query.

    place      (n,) where each token stands in the grid
    row        (tokens,) of every token that is written, the row that holds it
    to_grid    which packed heads (N, K G + 2 K) go to queries (B K, T G), keys and values (B K, T)
    from_grid  (N, K G + 2 K) the way back; what was read, (B K, T G), goes the queries' way
    read_to    which packed heads (N, K G) go to each place of what was read
    parts      of each part of the grid its queries, and how many keys they may see
    mask       (B, 1, T G, S + T) added to scores: the smallest number where none may look
    again      the packed heads of keys and values that stand in the grid once more, and where
    """

    def __init__(self, written: Any, alike: Any, seen: Any, config: Any, dtype: torch.dtype):
        written, alike = pad(written, (0, 1)), pad(alike, (0, 1))
        (answers, self.places), n_old = written.shape, seen.shape[1]
        self.heads, shared = config.num_attention_heads, config.num_key_value_heads
        each, every = self.heads // shared, self.heads + 2 * shared
        own = written & ~alike
        self.place = own.flatten().nonzero()[:, 0]
        n = len(self.place)
        self.dummies = n_rows(n) - n
        row = torch.full(own.shape, -1).masked_scatter(own, torch.arange(n))
        held = row.cummax(0)[0].masked_fill_(~written, n)  # an answer that is alike stands above
        row, self.row = row.masked_fill_(~own, n)[:, None], held[written]
        head = torch.arange(self.heads).view(shared, 1, each)
        query = row[..., None] * every + head  # (B, K, T, G)
        key = held[:, None] * every + self.heads + 2 * torch.arange(shared)[:, None]  # (B, K, T)
        self.sizes = query.numel(), key.numel(), key.numel()
        self.to_grid = torch.cat([x.flatten() for x in (query, key, key + 1)])
        self.read_to = (row[..., None] * self.heads + head).flatten()
        place = pad(self.place, (0, self.dummies), value=self.places - 1)[:, None]
        key = place // self.places * shared + torch.arange(shared)  # (N, K) which row of the grid
        key = key * self.places + place % self.places
        query = (key[:, :, None] * each + torch.arange(each)).flatten(1)
        both = torch.stack([key, key + self.sizes[1]], -1).flatten(1) + self.sizes[0]
        self.from_grid = torch.cat([query, both], 1)
        more = (alike & written)[:, None].expand(-1, shared, -1).flatten().nonzero()[:, 0]
        more = torch.cat([more, more + self.sizes[1]]) + self.sizes[0]
        self.again = (self.to_grid[more], more) if len(more) else None
        n_parts = max(round(self.places / AT_ONCE), 1)
        ends = [i * self.places // n_parts for i in range(n_parts + 1)]
        self.parts = [(slice(a * each, b * each), n_old + b) for a, b in zip(ends, ends[1:])]
        causal = torch.ones(self.places, self.places, dtype=torch.bool).tril()
        sights = (x.expand(answers, 1, self.places, -1) for x in (seen[:, None, None], causal))
        hidden = torch.cat(list(sights), -1).logical_not_().repeat_interleave(each, 2)
        self.mask = hidden.to(dtype).mul_(torch.finfo(dtype).min)


class _Norm(torch.autograd.Function):
    """normed(x, eps)[0]."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, eps: torch.Tensor) -> torch.Tensor:
        y, scale = normed(x, eps)
        ctx.save_for_backward(y, scale)
        return y

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor):
        y, scale = ctx.saved_tensors
        along = (grad * y).mean(-1, keepdim=True)  # x grown in its own direction leaves y as it is
        return torch.addcmul(grad, y, along, value=-1).mul_(scale), None


class _Moved(torch.autograd.Function):
    """The rows `to` of x (..., D) -> (rows, D); the rows `back` of the gradient go to x.

    again  rows of x that went to two places, and the other one, whose gradient is added
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, to: torch.Tensor, back: torch.Tensor, again: Any = None):
        ctx.back, ctx.shape, ctx.again = back.flatten(), x.shape, again
        return x.view(-1, x.shape[-1]).index_select(0, to.flatten())

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor):
        found = grad.index_select(0, ctx.back)
        if ctx.again is not None:
            found.index_add_(0, ctx.again[0], grad.index_select(0, ctx.again[1]))
        return found.view(ctx.shape), None, None, None


class _Attention(torch.autograd.Function):
    """Queries (R, T G, D) look at keys and read values (R, S + T, D) -> (R, T G, D)."""

    @staticmethod
    def forward(ctx: Any, query, keys, values, mask, parts):
        kept, read = [], []
        for part, seen in parts:
            scores = bmm(query[:, part], keys[:, :seen].transpose(1, 2))
            scores.unflatten(0, (len(mask), -1)).add_(mask[:, :, part, :seen])
            kept.append(scores.softmax(-1))
            read.append(bmm(kept[-1], values[:, :seen]))
        ctx.save_for_backward(query, keys, values, *kept)
        ctx.parts = parts
        return torch.cat(read, 1)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor):
        query, keys, values, *kept = ctx.saved_tensors
        to_query, to_keys, to_values = [], None, None
        for (part, seen), weights in zip(ctx.parts[::-1], kept[::-1]):
            slope = bmm(grad[:, part], values[:, :seen].transpose(1, 2))
            slope = torch.ops.aten._softmax_backward_data(slope, weights, -1, weights.dtype)
            to_query.append(bmm(slope, keys[:, :seen]))
            of_keys = bmm(slope.transpose(1, 2), query[:, part])
            of_values = bmm(weights.transpose(1, 2), grad[:, part])
            if to_keys is None:  # the last part sees all keys
                to_keys, to_values = of_keys, of_values
            else:
                to_keys[:, :seen] += of_keys
                to_values[:, :seen] += of_values
        return torch.cat(to_query[::-1], 1), to_keys, to_values, None, None


class PackedAnswers:
    """Answers read behind prompts whose keys and values are there, in training.

    parts   every joined matrix, made once an update; after the last backward their gradients go
            back through them to the weights
    leaves  the same cut off from that, as the answers of each micro-batch see them
    n_alike tokens so far that had no row of their own
    """

    def __init__(self, model: Any):
        self.model, pairs = model, pairs_of(model)
        self.turns = turns_of(model)
        layers = [joined(layer, pairs) for layer in model.model.layers]
        self.parts = [part for layer in layers for part in layer if part is not None]
        self.eps = self.parts[0].new_tensor(model.config.rms_norm_eps)
        self.leaves = [part.detach().requires_grad_(part.requires_grad) for part in self.parts]
        leaves = ((leaf, leaf.detach().t().contiguous()) for leaf in self.leaves)
        self.layers = [[None if x is None else next(leaves) for x in layer] for layer in layers]
        self.n_alike = 0
        self.library = by_onednn if takes_onednn() else contextlib.nullcontext

    def __call__(
        self,
        tokens: torch.Tensor,
        position: torch.Tensor,
        written: torch.Tensor,
        before: Sequence[tuple[torch.Tensor, torch.Tensor]],
        rows: torch.Tensor,
        seen: torch.Tensor,
    ) -> torch.Tensor:
        """Last states (n, width), before the head, of the n tokens that are written.

        tokens, position, written  (B, T) answers, where each token stands, and which are there
        before  of each layer the keys, in pairs, and values (P, K, S, D) of the prompts
        rows    (B,) which prompt each answer follows; seen: (B, S) False where that is padded
        """
        body, width, eps = self.model.model, 2 * self.turns.shape[1], self.eps
        embeddings = body.embed_tokens.weight
        alike = torch.zeros_like(written)
        if saves("alike_once"):
            same = (tokens[1:] == tokens[:-1]) & (rows[1:] == rows[:-1])[:, None]
            alike[1:] = (same & written[1:] & written[:-1]).cummin(1)[0]
        layout = Layout(written, alike, seen, self.model.config, embeddings.dtype)
        self.n_alike += int(alike.sum())
        here = pad(position, (0, 1)).flatten()[layout.place]
        n_shared = before[0][0].shape[1]
        turns = turns_at(self.turns, pad(here, (0, layout.dummies)), layout.heads, n_shared)
        n_grid = len(rows) * n_shared
        tokens = pad(tokens, (0, 1)).flatten()[layout.place]
        x = pad(embedding(tokens, embeddings), (0, 0, 0, layout.dummies))
        for (qkv, bias, out, gate_up, down), states in zip(self.layers, before):
            heads = self._product(_Norm.apply(x, eps), qkv, bias and bias[0])
            heads = turned(heads.unflatten(-1, (-1, width)), turns)
            grid = _Moved.apply(heads, layout.to_grid, layout.from_grid, layout.again)
            query, *new = (x.view(n_grid, -1, width) for x in grid.split(layout.sizes))
            keys, values = (
                torch.cat([old.index_select(0, rows).flatten(0, 1), x], 1)
                for old, x in zip(states, new)
            )
            read = _Attention.apply(query, keys, values, layout.mask, layout.parts)
            read = _Moved.apply(read, layout.from_grid[:, : layout.heads], layout.read_to)
            x = self._product(read.view(len(x), -1), out, x)
            both = self._product(_Norm.apply(x, eps), gate_up)
            gate, up = both.chunk(2, -1)
            x = self._product(silu(gate) * up, down, x)
        return (_Norm.apply(x, eps) * body.norm.weight).index_select(0, layout.row)

    def _product(self, x: torch.Tensor, weight: Any, plus: torch.Tensor | None = None) -> Any:
        return Product.apply(x, *weight, plus, self.library)
