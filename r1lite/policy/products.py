"""Products of float32 matrices by oneDNN where PyTorch would take MKL.

On AMD processors with AVX-512 MKL reaches less than half of what the machine can do. PyTorch has
both libraries and takes MKL for float32; a setting that permits shorter formats makes it take
oneDNN, which, where there are no units for them, computes in float32 all the same. Whether it
does is tried once on numbers that a shorter format cannot hold.
"""

import contextlib
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from .savings import saves

# oneDNN compiles a product for every new number of rows. Whole blocks keep these few; the rows
# that remain go the usual way.
BLOCK = 64


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


def _product(a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """a (M, K) times b (K, N), plus bias (N,): whole blocks of rows by oneDNN, the rest by MKL."""
    whole = len(a) // BLOCK * BLOCK
    out = a.new_empty(len(a), b.shape[1])
    for part, library in ((slice(whole), by_onednn), (slice(whole, None), contextlib.nullcontext)):
        if len(a[part]):
            with library():
                if bias is None:
                    torch.mm(a[part], b, out=out[part])
                else:
                    torch.addmm(bias, a[part], b, out=out[part])
    return out


def _turned_product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a (M, N) turned round, times b (M, K): the sum over rows, in the same two parts."""
    whole = len(a) // BLOCK * BLOCK
    with by_onednn():
        out = a[:whole].t() @ b[:whole]
    return out if whole == len(a) else out.addmm_(a[whole:].t(), b[whole:])


class _Linear(torch.autograd.Function):
    """x (M, K), weight (N, K), bias (N,) or None -> (M, N), and its gradients."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None):
        ctx.save_for_backward(x, weight)
        return _product(x, weight.t().contiguous(), bias)  # so oneDNN is an eighth faster

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor):
        x, weight = ctx.saved_tensors
        grad = grad.contiguous()
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        return (
            _product(grad, weight) if needs_x else None,
            _turned_product(grad, x) if needs_weight else None,
            grad.sum(0) if needs_bias else None,
        )


def _linear(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """torch.nn.functional.linear by oneDNN, where there are rows enough for a block."""
    rows = x.numel() // max(x.shape[-1], 1)
    if rows < BLOCK or x.device.type != "cpu" or x.dtype != weight.dtype:
        return torch.nn.functional.linear(x, weight, bias)
    return _Linear.apply(x.reshape(rows, -1), weight, bias).view(*x.shape[:-1], -1)


class _ByOneDNN(TorchFunctionMode):
    def __torch_function__(self, func: Callable, types: Any, args: Any = (), kwargs: Any = None):
        if func is torch.nn.functional.linear:
            func = _linear
        return func(*args, **(kwargs or {}))  # a mode is off inside its own call


def fast_products(model: Any = None) -> contextlib.AbstractContextManager[Any]:
    """Inside, linear layers of any architecture multiply by oneDNN where that is exact.

    For training; the decoder chooses for itself, as a step of it may have few rows. Layers of
    4 bits bring products of their own, a backward that computes activations again does so where
    this is off, and weights in slices are other tensors at every pass.
    """
    other = any(
        getattr(model, name, False) for name in ("is_quantized", "is_gradient_checkpointing")
    )
    if saves("onednn_products") and not other and onednn_is_exact():
        return _ByOneDNN()
    return contextlib.nullcontext()
