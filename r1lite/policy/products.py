"""Products of float32 matrices by oneDNN where PyTorch would take MKL.

On AMD processors with AVX-512 MKL reaches less than half of what the machine can do. PyTorch has
both libraries and takes MKL for float32; a setting that permits shorter formats makes it take
oneDNN, which, where there are no units for them, computes in float32 all the same. Whether it
does is tried once on numbers that a shorter format cannot hold.
"""

import contextlib
from collections.abc import Iterator
from functools import cache
from typing import Any

import torch

from .savings import saves

BLOCK = 64  # packed rows come in so many: oneDNN compiles a product for every new number


@contextlib.contextmanager
def by_onednn() -> Iterator[None]:
    """Inside, PyTorch multiplies float32 matrices by oneDNN; for where onednn_is_exact()."""
    setting = torch.backends.mkldnn.matmul
    before = setting.fp32_precision
    setting.fp32_precision = "bf16"
    try:
        yield
    finally:
        setting.fp32_precision = before


@cache
def onednn_is_exact() -> bool:
    """True where oneDNN is there and multiplies float32 matrices in float32."""
    if not hasattr(getattr(torch.backends.mkldnn, "matmul", None), "fp32_precision"):
        return False
    # 1 + 2^-20 needs 21 bits of mantissa: float32 has 24, the shorter formats 8 and 11
    a = torch.full((256, 256), 1 + 2.0**-20)
    with by_onednn():
        product = a @ torch.eye(256)
    return torch.equal(product, a)


def takes_onednn() -> bool:
    """True where float32 products are to go by oneDNN: that is exact here, and switched on."""
    return saves("onednn_products") and onednn_is_exact()


class Product(torch.autograd.Function):
    """x (M, K) times weight (N, K), plus (N,), (M, N) or None -> (M, N).

    turned   the weight as (K, N) in memory, which oneDNN reads an eighth faster
    library  by_onednn, or a context that changes nothing
    """

    @staticmethod
    def forward(ctx: Any, x, weight, turned, plus, library: Any):
        ctx.save_for_backward(x, weight)
        ctx.library, ctx.is_bias = library, plus is not None and plus.dim() == 1
        with library():
            return x @ turned if plus is None else torch.addmm(plus, x, turned)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor):
        x, weight = ctx.saved_tensors
        grad, to_weight = grad.contiguous(), None
        needs_x, needs_weight, _, needs_plus, _ = ctx.needs_input_grad
        with ctx.library():
            to_x = grad @ weight if needs_x else None
            if needs_weight and weight.grad is not None:  # micro-batches share it
                weight.grad.addmm_(grad.t(), x)
            elif needs_weight:
                to_weight = grad.t() @ x
        to_plus = None if not needs_plus else grad.sum(0) if ctx.is_bias else grad
        return to_x, to_weight, None, to_plus, None
