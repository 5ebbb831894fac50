"""Qwen2 and Llama with fused weights: what decoding and training on a CPU share.

For a model of this size most of a step is small calls on small tensors. Matrices that multiply the
same state are one matrix, norms and attention's scale are multiplied into them, and RoPE turns
pairs of numbers as complex ones: about half the calls. It is used only where `supports_fused` says
that it computes the same; the rest goes through transformers.
"""

from typing import Any

import torch

from ..policy.adapters import weight_of


def supports_fused(model: Any) -> bool:
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


def pair_order(model: Any) -> torch.Tensor:
    """The order (D,) in which two numbers of a head that RoPE turns together stand side by side.

    Queries and keys are reordered alike, so their products stay the same.
    """
    width = model.model.layers[0].self_attn.head_dim
    return torch.arange(width, device=model.device).view(2, -1).t().flatten()


def rope_table(model: Any) -> torch.Tensor:
    """What RoPE multiplies with at every position: complex (positions, D / 2)."""
    body = model.model
    positions = torch.arange(model.config.max_position_embeddings, device=model.device)[None]
    cos, sin = body.rotary_emb(body.embed_tokens.weight, positions)
    return torch.complex(cos, sin)[0, :, : cos.shape[-1] // 2]


def rope_at(
    table: torch.Tensor, positions: torch.Tensor, n_heads: int, n_kv_heads: int
) -> torch.Tensor:
    """Rotations (N, n_heads + 2 n_kv_heads, D / 2) of the heads of tokens at positions (N,)."""
    rotations = table.index_select(0, positions)[:, None].repeat(1, n_heads + 2 * n_kv_heads, 1)
    rotations[:, n_heads + 1 :: 2] = 1  # values are not rotated
    return rotations


def as_complex(heads: torch.Tensor) -> torch.Tensor:
    """Heads (..., D) as complex numbers (..., D / 2), in the same memory."""
    return torch.view_as_complex(heads.unflatten(-1, (-1, 2)))


def fuse_weights(layer: Any, pairs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    """A layer's matrices (out, in): queries, then keys and values alternating, a head each; their
    bias; out; gate and up; down."""
    attention, mlp, width = layer.self_attn, layer.mlp, len(pairs)

    def by_head(matrix: Any, scale: float) -> torch.Tensor:  # (heads, D, ...), in pairs
        return matrix.unflatten(0, (-1, width))[:, pairs] * scale

    def heads_of(q: Any, k: Any, v: Any) -> torch.Tensor:
        k, v = by_head(k, 1.0), v.unflatten(0, (-1, width))
        both = torch.stack([k, v], 1).flatten(0, 2)
        return torch.cat([by_head(q, attention.scaling).flatten(0, 1), both])

    parts = (attention.q_proj, attention.k_proj, attention.v_proj)
    gate_up = torch.cat([weight_of(mlp.gate_proj), weight_of(mlp.up_proj)])
    return (
        heads_of(*map(weight_of, parts)) * layer.input_layernorm.weight,
        None if parts[0].bias is None else heads_of(*(part.bias for part in parts)),
        weight_of(attention.o_proj),
        gate_up * layer.post_attention_layernorm.weight,
        weight_of(mlp.down_proj),
    )


def rms_norm(x: torch.Tensor, eps: torch.Tensor) -> torch.Tensor:
    """RMSNorm of x (..., width) without a weight, which is in the next matrix."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x * torch.addcmul(eps, length, length, value=1 / x.shape[-1]).rsqrt()
