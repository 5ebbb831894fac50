"""The written-out layers: each derivative against finite differences, each turn against RoPE."""

import contextlib

import torch
from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb

from r1lite.learn.update import AnswerLogps
from r1lite.policy import prompts
from r1lite.policy.packed import _Norm
from r1lite.policy.products import Product
from r1lite.policy.savings import without
from r1lite.policy.written import joined, normed, pairs_of, turned, turns_of

EPS = torch.tensor(1e-3, dtype=torch.double)


def test_the_norm_and_its_derivative():
    x = torch.randn(5, 8, dtype=torch.double, requires_grad=True)
    expected = torch.nn.functional.rms_norm(x, (8,), eps=1e-3)
    assert torch.allclose(normed(x.detach(), EPS)[0], expected, atol=1e-12)
    assert torch.autograd.gradcheck(lambda x: _Norm.apply(x, EPS), x)


def test_a_product_and_its_derivatives():
    sizes = ((5, 4), (3, 4), (5, 3))
    x, weight, plus = (torch.randn(s, dtype=torch.double, requires_grad=True) for s in sizes)

    def product(x, weight, plus):
        return Product.apply(x, weight, weight.detach().t(), plus, contextlib.nullcontext)

    assert torch.autograd.gradcheck(product, (x, weight, plus))
    assert torch.autograd.gradcheck(product, (x, weight, plus[0].detach().requires_grad_()))


def test_pairs_turn_as_halves_do(mini):
    """RoPE turns number i with number i + D / 2; written out they stand side by side."""
    model, pairs = mini.model.double(), pairs_of(mini.model)
    heads = torch.randn(1, 3, 7, len(pairs), dtype=torch.double)  # three heads, seven positions
    cos, sin = model.model.rotary_emb(heads, torch.arange(7)[None])
    expected, _ = apply_rotary_pos_emb(heads, heads, cos, sin)
    found = turned(heads[..., pairs], turns_of(model)[:7])
    assert torch.allclose(found, expected[..., pairs], atol=1e-6)


def test_joined_matrices_multiply_as_the_single_ones_behind_their_norm(mini):
    layer = mini.model.model.layers[0]
    torch.nn.init.normal_(layer.input_layernorm.weight)
    torch.nn.init.normal_(layer.self_attn.v_proj.bias)
    x = normed(torch.randn(4, 32), torch.tensor(1e-6))[0]
    qkv, bias, *_ = joined(layer, pairs_of(mini.model))
    heads = torch.nn.functional.linear(x, qkv, bias).unflatten(1, (-1, 8))
    assert mini.model.config.num_attention_heads == 4
    values = heads[:, 5::2].flatten(1)  # behind the queries, a head of keys and one of values
    expected = layer.self_attn.v_proj(x * layer.input_layernorm.weight)
    assert torch.allclose(values, expected, atol=1e-5)


def test_training_takes_it_where_it_fits_and_only_there(mini, monkeypatch):
    """A switch that did nothing would pass every test of equality."""
    made = []
    plain = prompts.PackedAnswers
    monkeypatch.setattr(prompts, "PackedAnswers", lambda model: made.append(1) or plain(model))

    class Row:
        prompt_ids, answer_ids = [5, 6], [7, 1]

        def __len__(self):
            return 4

    AnswerLogps(mini.model, [Row()], 0, 1.0)
    assert len(made) == 1
    with without("packed_training"):
        AnswerLogps(mini.model, [Row()], 0, 1.0)
    mini.model.config.hidden_act = "gelu"
    AnswerLogps(mini.model, [Row()], 0, 1.0)
    assert len(made) == 1
