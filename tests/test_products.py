"""Products by oneDNN: float32 as exact as before, and no setting left behind."""

import contextlib

import pytest
import torch
from torch.nn.functional import linear

from r1lite.policy import products
from r1lite.policy.products import BLOCK, Product, fast_products, onednn_is_exact
from r1lite.policy.savings import without


def setting() -> str:
    return torch.backends.mkldnn.matmul.fp32_precision


def gradients(n_rows: int, dtype: torch.dtype, context, bias: bool = True) -> list[torch.Tensor]:
    torch.manual_seed(n_rows)
    x, w, b = (torch.randn(s, dtype=torch.float64) for s in ((2, n_rows, 24), (40, 24), (40,)))
    leaves = [t.to(dtype).requires_grad_() for t in ((x, w, b) if bias else (x, w))]
    with context:
        out = linear(*leaves)
        out.square().sum().backward()
    return [out.detach(), *(t.grad for t in leaves)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("n_rows", [1, BLOCK // 2, BLOCK // 2 + 1, BLOCK, 3 * BLOCK + 5])
def test_values_and_gradients_are_as_near_the_truth_as_usual(n_rows, bias, monkeypatch):
    if not onednn_is_exact():
        monkeypatch.setattr(products, "by_onednn", contextlib.nullcontext)
    monkeypatch.setattr(products, "onednn_is_exact", lambda: True)
    truth = gradients(n_rows, torch.float64, contextlib.nullcontext(), bias)
    usual = gradients(n_rows, torch.float32, contextlib.nullcontext(), bias)
    found = gradients(n_rows, torch.float32, fast_products(), bias)
    for a, b, c in zip(found, usual, truth, strict=True):
        assert a.shape == c.shape and a.dtype == torch.float32
        scale = c.abs().max()
        assert (a - c).abs().max() / scale < 2e-6
        assert (a - c).abs().max() / scale < 4 * (b - c).abs().max() / scale + 2e-7


def test_what_is_frozen_gets_no_gradient():
    frozen, x = torch.randn(8, 8), torch.randn(2 * BLOCK, 8, requires_grad=True)
    with fast_products():
        linear(x, frozen).sum().backward()
    assert frozen.grad is None and torch.allclose(x.grad, frozen.sum(0).expand_as(x), atol=1e-5)


def test_many_rows_go_to_onednn_and_few_do_not(monkeypatch):
    """What is counted is the precision that is set while PyTorch multiplies."""
    monkeypatch.setattr(products, "onednn_is_exact", lambda: True)
    seen, before = [], torch.Tensor.__matmul__
    monkeypatch.setattr(
        torch.Tensor,
        "__matmul__",
        lambda a, b: seen.append((len(a), setting())) or before(a, b),
    )
    weight, x = torch.randn(8, 8, requires_grad=True), torch.randn(BLOCK + 3, 8).requires_grad_()
    with fast_products():
        out = linear(x, weight)
        linear(x[: BLOCK - 1], weight)
    assert seen == [(BLOCK + 3, "bf16")]
    out.sum().backward()
    assert seen[1:] == [(BLOCK + 3, "bf16"), (8, "bf16")] and setting() == "none"


def test_a_weight_that_micro_batches_share_gathers_its_gradient():
    x, weight = torch.randn(3, 5, 8).double(), torch.randn(4, 8).double().requires_grad_()
    turned = weight.detach().t().contiguous()
    for part in x:
        Product.apply(part, weight, None, contextlib.nullcontext, turned).square().sum().backward()
    expected = sum(2 * (part @ weight.detach().t()).t() @ part for part in x)
    assert torch.allclose(weight.grad, expected)


def test_the_setting_comes_back_after_an_error():
    before = setting()
    with pytest.raises(RuntimeError), fast_products():
        linear(torch.randn(BLOCK, 8), torch.randn(8, 9))
    assert setting() == before


def test_where_a_product_is_rounded_the_usual_one_is_taken(monkeypatch):
    """A machine with units for bfloat16 would round: the trial must see that."""
    onednn_is_exact.cache_clear()
    rounded = torch.full((256, 256), 1 + 2.0**-20).bfloat16().float()
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda a, b: rounded)
    assert not onednn_is_exact()
    monkeypatch.undo()
    assert isinstance(_with(False, monkeypatch), contextlib.nullcontext)
    onednn_is_exact.cache_clear()


def _with(exact: bool, monkeypatch):
    monkeypatch.setattr(products, "onednn_is_exact", lambda: exact)
    return fast_products()


def test_the_switch():
    with without("onednn_products"):
        assert isinstance(fast_products(), contextlib.nullcontext)
