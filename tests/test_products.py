"""Products by oneDNN: float32 as exact as before, and no setting left behind."""

import contextlib
from functools import partial

import pytest
import torch

from r1lite.policy import products
from r1lite.policy.products import BLOCK, Product, by_onednn, onednn_is_exact, takes_onednn
from r1lite.policy.savings import without


def setting() -> str:
    return torch.backends.mkldnn.matmul.fp32_precision


def multiplied(x, weight, plus=None, library=contextlib.nullcontext):
    """By Product, which is handed the weight a second time, turned in memory."""
    return Product.apply(x, weight, weight.detach().t().contiguous(), plus, library)


def gradients(dtype: torch.dtype, product, plus: tuple[int, ...] | None) -> list[torch.Tensor]:
    torch.manual_seed(3)
    shapes = ((3 * BLOCK, 24), (40, 24), *([] if plus is None else [plus]))
    leaves = [torch.randn(s, dtype=torch.float64).to(dtype).requires_grad_() for s in shapes]
    out = product(*leaves)
    out.square().sum().backward()
    return [out.detach(), *(t.grad for t in leaves)]


def plain(x, weight, plus=None):
    return x @ weight.t() if plus is None else x @ weight.t() + plus


@pytest.mark.parametrize("plus", [None, (40,), (3 * BLOCK, 40)])
def test_values_and_gradients_are_as_near_the_truth_as_usual(plus):
    library = by_onednn if onednn_is_exact() else contextlib.nullcontext
    truth = gradients(torch.float64, plain, plus)
    usual = gradients(torch.float32, plain, plus)
    found = gradients(torch.float32, partial(multiplied, library=library), plus)
    for a, b, c in zip(found, usual, truth, strict=True):
        assert a.shape == c.shape and a.dtype == torch.float32
        scale = c.abs().max()
        assert (a - c).abs().max() / scale < 2e-6
        assert (a - c).abs().max() / scale < 4 * (b - c).abs().max() / scale + 2e-7


def test_what_is_frozen_gets_no_gradient():
    frozen, x = torch.randn(8, 8), torch.randn(2 * BLOCK, 8, requires_grad=True)
    multiplied(x, frozen).sum().backward()
    assert frozen.grad is None and torch.allclose(x.grad, frozen.sum(0).expand_as(x), atol=1e-5)


def test_forward_and_backward_go_to_the_library(monkeypatch):
    """What is counted is the precision that is set while PyTorch multiplies."""
    seen, before = [], torch.Tensor.__matmul__
    monkeypatch.setattr(
        torch.Tensor,
        "__matmul__",
        lambda a, b: seen.append((len(a), setting())) or before(a, b),
    )
    weight, x = torch.randn(8, 8, requires_grad=True), torch.randn(BLOCK, 8).requires_grad_()
    out = multiplied(x, weight, library=by_onednn)
    assert seen == [(BLOCK, "bf16")]
    out.sum().backward()
    assert seen[1:] == [(BLOCK, "bf16"), (8, "bf16")] and setting() == "none"


def test_a_weight_that_micro_batches_share_gathers_its_gradient():
    x, weight = torch.randn(3, 5, 8).double(), torch.randn(4, 8).double().requires_grad_()
    for part in x:
        multiplied(part, weight).square().sum().backward()
    expected = sum(2 * (part @ weight.detach().t()).t() @ part for part in x)
    assert torch.allclose(weight.grad, expected)


def test_the_setting_comes_back_after_an_error():
    before = setting()
    with pytest.raises(RuntimeError):
        multiplied(torch.randn(BLOCK, 8), torch.randn(8, 9), library=by_onednn)
    assert setting() == before


def test_where_a_product_is_rounded_the_usual_one_is_taken(monkeypatch):
    """A machine with units for bfloat16 would round: the trial must see that."""
    onednn_is_exact.cache_clear()
    rounded = torch.full((256, 256), 1 + 2.0**-20).bfloat16().float()
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda a, b: rounded)
    assert not onednn_is_exact() and not takes_onednn()
    monkeypatch.undo()
    onednn_is_exact.cache_clear()


def test_the_switch(monkeypatch):
    monkeypatch.setattr(products, "onednn_is_exact", lambda: True)
    assert takes_onednn()
    with without("onednn_products"):
        assert not takes_onednn()
