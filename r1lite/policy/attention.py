"""Attention for a few new tokens on top of cached ones, without copying a key.

In grouped-query attention several query heads read the same keys. Where there is a mask,
transformers copies every key and value once per query head before the kernel. Here the query
heads of one key head stand behind each other as if they were more positions; then none is copied.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from transformers import AttentionInterface

from .savings import saves

NAME = "r1lite_shared_keys"
SHORT = 512  # tokens a row up to which the scores of all pairs are held at once


def shared_keys_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """query (B, H, Q, D), key and value (B, K, S, D) with K dividing H.

    attention_mask  what mask_of made of the places where a query may look
    Returns (B, Q, H, D), as transformers wants it.
    """
    batch, heads, n_query, width = query.shape
    shared = heads // key.shape[1]
    stacked = query.reshape(batch, key.shape[1], shared * n_query, width)
    if n_query <= SHORT and query.device.type == "cpu":
        # two products are faster on a CPU than its attention kernel, several times for one token;
        # but they hold a score for every pair of places, which grows with the square of the length
        stacked = stacked if scaling == 1.0 else stacked * scaling
        scores = (stacked @ key.transpose(-1, -2)).add_(attention_mask)
        out = scores.softmax(-1) @ value
    else:
        out = torch.nn.functional.scaled_dot_product_attention(
            stacked, key, value, attn_mask=attention_mask, dropout_p=dropout, scale=scaling
        )
    return out.view(batch, heads, n_query, width).transpose(1, 2), None


AttentionInterface.register(NAME, shared_keys_attention)


def can_share_keys(model: Any) -> bool:
    """True where a model's attention can be exchanged and every layer sees all tokens."""
    config = model.config
    plain = config._attn_implementation in ("sdpa", NAME)
    whole = not getattr(config, "sliding_window", None)
    return plain and whole and getattr(model, "_supports_attention_backend", False)


def mask_of(model: Any, allowed: torch.Tensor) -> torch.Tensor:
    """The mask for calls inside shared_keys(model), made once for all layers.

    allowed  (B or 1, 1, Q, S) True where a query may look; Q may be 1
    """
    if not saves("shared_keys"):
        return allowed
    config = model.config
    bias = torch.zeros(allowed.shape, dtype=model.dtype, device=allowed.device)
    bias = bias.masked_fill(~allowed, torch.finfo(model.dtype).min)
    n_query, shared = allowed.shape[-2], config.num_attention_heads // config.num_key_value_heads
    return bias if n_query == 1 else bias.repeat(1, 1, shared, 1)


@contextlib.contextmanager
def shared_keys(model: Any) -> Iterator[bool]:
    """Use this attention for a while, in calls that bring their own mask of four dimensions.

    Only where can_share_keys(model): for this attention transformers makes no mask itself.
    """
    before = model.config._attn_implementation
    if saves("shared_keys"):
        model.config._attn_implementation = NAME
    try:
        yield True
    finally:
        model.config._attn_implementation = before
