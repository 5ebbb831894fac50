"""Qwen2 and Llama written out in plain tensors, for decoding and for training on a CPU.

For a model of this size most of a step is small calls on small tensors. Matrices that multiply the
same state are joined, norms and attention's scale are multiplied into them, RoPE turns pairs of
numbers as complex ones, and what has a short derivative says so itself: about half the calls. It is
used only where `fits` says that it computes the same; the rest goes through transformers.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import embedding, linear, silu

from .adapters import weight_of
from .attention import shared_keys_attention


def fits(model: Any) -> bool:
    """True where this computes what the model does: a plain Qwen2 or Llama on a CPU."""
    config = model.config
    if config.model_type not in ("qwen2", "llama") or model.device.type != "cpu":
        return False
    layer = model.model.layers[0]
    matrices = (layer.self_attn.q_proj, layer.self_attn.o_proj, layer.mlp.gate_proj)
    return (
        model.dtype in (torch.float32, torch.float64)
        and all(type(getattr(m, "base_layer", m)) is torch.nn.Linear for m in matrices)  # not 4-bit
        and layer.self_attn.o_proj.bias is None
        and layer.mlp.gate_proj.bias is None
        and config.hidden_act == "silu"
        and not getattr(config, "sliding_window", None)
        and getattr(model.model.rotary_emb, "rope_type", "") in ("default", "linear", "llama3")
    )


def pairs_of(model: Any) -> torch.Tensor:
    """The order (D,) in which two numbers of a head that RoPE turns together stand side by side.

    Queries and keys are reordered alike, so their scores stay the same.
    """
    width = model.model.layers[0].self_attn.head_dim
    return torch.arange(width, device=model.device).view(2, -1).t().flatten()


def turns_of(model: Any) -> torch.Tensor:
    """What RoPE multiplies with at every position: complex (positions, D / 2)."""
    body = model.model
    places = torch.arange(model.config.max_position_embeddings, device=model.device)[None]
    cos, sin = body.rotary_emb(body.embed_tokens.weight, places)
    return torch.complex(cos, sin)[0, :, : cos.shape[-1] // 2]


def turned(heads: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """RoPE on heads (..., D) in pairs, by complex turns (..., D / 2)."""
    pairs = torch.view_as_complex(heads.unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turns).flatten(-2)


def joined(layer: Any, pairs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    """A layer's matrices (out, in): queries, keys, values; their bias; out; gate and up; down."""
    attention, mlp = layer.self_attn, layer.mlp
    weights, biases = [], []
    for part, scale in (
        (attention.q_proj, attention.scaling),
        (attention.k_proj, 1.0),
        (attention.v_proj, None),
    ):
        for found, kept in ((weight_of(part), weights), (part.bias, biases)):
            if found is not None and scale is not None:
                found = found.unflatten(0, (-1, len(pairs)))[:, pairs].flatten(0, 1) * scale
            kept.append(found)
    gate_up = torch.cat([weight_of(mlp.gate_proj), weight_of(mlp.up_proj)])
    return (
        torch.cat(weights) * layer.input_layernorm.weight,
        None if biases[0] is None else torch.cat(biases),
        weight_of(attention.o_proj),
        gate_up * layer.post_attention_layernorm.weight,
        weight_of(mlp.down_proj),
    )


def normed(x: torch.Tensor, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
    """RMSNorm of x (..., width) without a weight, and what rows were multiplied with (..., 1)."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    scale = length.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
    return x * scale, scale


class _Norm(torch.autograd.Function):
    """normed(x, eps)[0]."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, eps: float) -> torch.Tensor:
        y, scale = normed(x, eps)
        ctx.save_for_backward(y, scale)
        return y

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor):
        y, scale = ctx.saved_tensors
        along = (grad * y).mean(-1, keepdim=True)  # x grown in its own direction leaves y as it is
        return torch.addcmul(grad, y, along, value=-1).mul_(scale), None


class _Gated(torch.autograd.Function):
    """silu(gate) * up of gate and up side by side (N, 2 F) -> (N, F)."""

    @staticmethod
    def forward(ctx: Any, both: torch.Tensor) -> torch.Tensor:
        gate, up = both.chunk(2, -1)
        opened = silu(gate)
        ctx.save_for_backward(both, opened)
        return opened * up

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor):
        both, opened = ctx.saved_tensors
        gate, up = both.chunk(2, -1)
        to_gate = torch.ops.aten.silu_backward(grad * up, gate)
        return torch.cat([to_gate, grad * opened], -1)


class WrittenAnswers:
    """Answers read behind prompts whose keys and values are there, in training.

    parts   every joined matrix, made once an update; after the last backward their gradients go
            back through them to the weights
    leaves  the same cut off from that, as the answers of each micro-batch see them
    """

    def __init__(self, model: Any):
        self.model, pairs = model, pairs_of(model)
        self.turns = turns_of(model)
        layers = [joined(layer, pairs) for layer in model.model.layers]
        self.parts = [part for layer in layers for part in layer if part is not None]
        self.leaves = [part.detach().requires_grad_(part.requires_grad) for part in self.parts]
        leaves = iter(self.leaves)
        self.layers = [[None if x is None else next(leaves) for x in layer] for layer in layers]

    def __call__(
        self,
        tokens: torch.Tensor,
        position: torch.Tensor,
        before: Sequence[tuple[torch.Tensor, torch.Tensor]],
        rows: torch.Tensor,
        mask: torch.Tensor,
    ) -> torch.Tensor:
        """Last states (B, N, width), before the head, of tokens (B, N) at positions (B, N).

        before  of each layer the keys, in pairs, and values (P, K, S, D) of the prompts
        rows    (B,) which prompt each row follows
        mask    what attention.mask_of made of the places (S + N) where each token may look
        """
        config, body = self.model.config, self.model.model
        heads, shared = config.num_attention_heads, config.num_key_value_heads
        eps, by_head = config.rms_norm_eps, (*tokens.shape, -1, 2 * self.turns.shape[1])
        turns = self.turns[position.flatten()][:, None]
        x = embedding(tokens.flatten(), body.embed_tokens.weight)
        for (qkv, bias, out, gate_up, down), states in zip(self.layers, before):
            found = linear(_Norm.apply(x, eps), qkv, bias).unflatten(-1, (heads + 2 * shared, -1))
            moved, value = found.split((heads + shared, shared), 1)
            query, key = turned(moved, turns).split((heads, shared), 1)
            keys, values = (
                torch.cat([old.index_select(0, rows), new.view(by_head).transpose(1, 2)], 2)
                for old, new in zip(states, (key, value))
            )
            read, _ = shared_keys_attention(
                self.model, query.view(by_head).transpose(1, 2), keys, values, mask, 1.0
            )
            x = x + linear(read.reshape(len(x), -1), out)
            x = x + linear(_Gated.apply(linear(_Norm.apply(x, eps), gate_up)), down)
        return (_Norm.apply(x, eps) * body.norm.weight).view(*tokens.shape, -1)
