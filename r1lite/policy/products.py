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

# fewer rows go the usual way, which takes less to begin; and packed rows come in blocks, as oneDNN
# compiles a product for every new number of rows
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


def takes_onednn() -> bool:
    """True where float32 products are to go by oneDNN: that is exact here, and switched on."""
    return saves("onednn_products") and onednn_is_exact()


class Product(torch.autograd.Function):
    """x (M, K) times weight (N, K), plus (N,), (M, N) or None -> (M, N).

    library  by_onednn, or a context that changes nothing
    turned   the weight as (K, N) in memory, which oneDNN reads an eighth faster. It is given where
             micro-batches share a weight: its gradient is then added to what they left on it
    first    what is done to x before: forward(x) -> (y, kept) and backward(grad of y, x, kept).
             The backward does it again, as y would have to come from memory, which takes longer
    """

    @staticmethod
    def forward(ctx: Any, x, weight, plus, library: Any, turned=None, first: Any = None):
        ctx.save_for_backward(x, weight)
        ctx.library, ctx.adds, ctx.first = library, turned is not None, first
        ctx.is_bias = plus is not None and plus.dim() == 1
        turned = turned if ctx.adds else weight.t().contiguous()
        if first is not None:
            x, _ = first.forward(x)
        with library():
            return x @ turned if plus is None else torch.addmm(plus, x, turned)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor):
        given, weight = ctx.saved_tensors
        x, kept = (given, None) if ctx.first is None else ctx.first.forward(given)
        grad, to_weight = grad.contiguous(), None
        needs_x, needs_weight, needs_plus, *_ = ctx.needs_input_grad
        with ctx.library():
            to_x = grad @ weight if needs_x else None
            if needs_weight and ctx.adds and weight.grad is not None:
                weight.grad.addmm_(grad.t(), x)
            elif needs_weight:
                to_weight = grad.t() @ x
        if needs_x and ctx.first is not None:
            to_x = ctx.first.backward(to_x, given, kept)
        to_plus = None if not needs_plus else grad.sum(0) if ctx.is_bias else grad
        return to_x, to_weight, to_plus, None, None, None


def _linear(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """torch.nn.functional.linear by oneDNN, where there are rows enough for a block."""
    rows = x.numel() // max(x.shape[-1], 1)
    if rows < BLOCK or x.device.type != "cpu" or x.dtype != weight.dtype:
        return torch.nn.functional.linear(x, weight, bias)
    return Product.apply(x.reshape(rows, -1), weight, bias, by_onednn).view(*x.shape[:-1], -1)


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
    if takes_onednn() and not other:
        return _ByOneDNN()
    return contextlib.nullcontext()
