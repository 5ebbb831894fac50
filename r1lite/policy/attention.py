"""Attention of one new token on top of cached ones, without copying a key.

In grouped-query attention several query heads read the same keys. Where there is a mask,
transformers copies every key and value once per query head before the kernel. Here the query
heads of one key head stand behind each other as if they were positions; then none is copied.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from transformers import AttentionInterface

from .savings import saves

NAME = "r1lite_shared_keys"
BY_PRODUCTS = ("cpu",)  # where two products are faster than the kernel, there several times


def shared_keys_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """query (B, H, 1, D), key and value (B, K, S, D) with K dividing H.

    attention_mask  what mask_of made of the places where the query may look
    Returns (B, 1, H, D), as transformers wants it.
    """
    stacked = query.view(len(query), key.shape[1], -1, query.shape[-1])
    if query.device.type in BY_PRODUCTS:
        scores = (stacked * scaling @ key.transpose(-1, -2)).add_(attention_mask)
        out = scores.softmax(-1) @ value
    else:
        out = torch.nn.functional.scaled_dot_product_attention(
            stacked, key, value, attn_mask=attention_mask, scale=scaling
        )
    return out.view(query.shape).transpose(1, 2), None


AttentionInterface.register(NAME, shared_keys_attention)


def can_share_keys(model: Any) -> bool:
    """True where a model's attention can be exchanged and every layer sees all tokens."""
    config = model.config
    plain = config._attn_implementation in ("sdpa", NAME)
    whole = not getattr(config, "sliding_window", None)
    return plain and whole and getattr(model, "_supports_attention_backend", False)


def mask_of(model: Any, allowed: torch.Tensor) -> torch.Tensor:
    """The mask for calls inside shared_keys(model), made once for all layers.

    allowed  (B, 1, 1, S) True where a new token may look
    """
    if not saves("shared_keys"):
        return allowed
    bias = torch.zeros(allowed.shape, dtype=model.dtype, device=allowed.device)
    return bias.masked_fill(~allowed, torch.finfo(model.dtype).min)


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
