"""The fused layers: each derivative against finite differences, each rotation against RoPE."""

import torch
from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb

from r1lite import fast
from r1lite.fast import shared_prompts
from r1lite.fast.fused import as_complex, fuse_weights, pair_order, rms_norm, rope_table
from r1lite.fast.optimizations import disabled
from r1lite.fast.packed import _Attention, _Moved

EPS = torch.tensor(1e-3, dtype=torch.double)


def test_the_norm_and_its_derivative():
    x = torch.randn(5, 8, dtype=torch.double, requires_grad=True)
    expected = torch.nn.functional.rms_norm(x, (8,), eps=1e-3)
    assert torch.allclose(rms_norm(x, EPS), expected, atol=1e-12)
    assert torch.autograd.gradcheck(lambda x: rms_norm(x, EPS), x)
    zero = torch.zeros(1, 8, dtype=torch.double, requires_grad=True)  # the dummy row
    rms_norm(zero, EPS).sum().backward()
    assert torch.isfinite(zero.grad).all()


def test_moving_rows_and_its_derivative():
    x = torch.randn(4, 3, dtype=torch.double, requires_grad=True)
    to, back = torch.tensor([2, 0, 3, 1]), torch.tensor([1, 3, 0, 2])
    assert torch.equal(_Moved.apply(x, to, back), x[to])
    assert torch.autograd.gradcheck(lambda x: _Moved.apply(x, to, back), x)


def test_attention_in_parts_and_its_derivative():
    """Two parts of the grid, the first of which sees fewer keys."""
    query, keys, values = (
        torch.randn(2, n, 4, dtype=torch.double, requires_grad=True) for n in (6, 8, 8)
    )
    mask = torch.zeros(1, 1, 6, 8, dtype=torch.double)
    mask[..., :3, 5:] = torch.finfo(torch.double).min
    parts = [(slice(0, 3), 5), (slice(3, 6), 8)]

    def attention(*states):
        return _Attention.apply(*states, mask, parts)

    expected = (query @ keys.transpose(1, 2) + mask[0]).softmax(-1) @ values
    assert torch.allclose(attention(query, keys, values), expected, atol=1e-12)
    assert torch.autograd.gradcheck(attention, (query, keys, values))


def test_pairs_are_rotated_as_halves_are(mini):
    """RoPE turns number i with number i + D / 2; fused they stand side by side."""
    model, pairs = mini.model.double(), pair_order(mini.model)
    heads = torch.randn(1, 3, 7, len(pairs), dtype=torch.double)  # three heads, seven positions
    cos, sin = model.model.rotary_emb(heads, torch.arange(7)[None])
    expected, _ = apply_rotary_pos_emb(heads, heads, cos, sin)
    rotated = as_complex(heads[..., pairs]) * rope_table(model)[:7]
    found = torch.view_as_real(rotated).flatten(-2)
    assert torch.allclose(found, expected[..., pairs], atol=1e-6)


def test_fused_matrices_multiply_as_the_single_ones_behind_their_norm(mini):
    layer = mini.model.model.layers[0]
    torch.nn.init.normal_(layer.input_layernorm.weight)
    torch.nn.init.normal_(layer.self_attn.v_proj.bias)
    x = rms_norm(torch.randn(4, 32), torch.tensor(1e-6))
    qkv, bias, *_ = fuse_weights(layer, pair_order(mini.model))
    heads = torch.nn.functional.linear(x, qkv, bias).unflatten(1, (-1, 8))
    assert mini.model.config.num_attention_heads == 4
    values = heads[:, 5::2].flatten(1)  # behind the queries, a head of keys and one of values
    expected = layer.self_attn.v_proj(x * layer.input_layernorm.weight)
    assert torch.allclose(values, expected, atol=1e-5)


def test_training_takes_it_where_it_fits_and_only_there(mini, monkeypatch):
    """A switch that did nothing would pass every test of equality."""
    made = []
    plain = shared_prompts.PackedAnswers
    monkeypatch.setattr(
        shared_prompts, "PackedAnswers", lambda model: made.append(1) or plain(model)
    )

    class Row:
        prompt_ids, answer_ids = [5, 6], [7, 1]

        def __len__(self):
            return 4

    fast.answer_logps(mini.model, [Row()], 0, 1.0)
    assert len(made) == 1
    with disabled("packed_training"):
        fast.answer_logps(mini.model, [Row()], 0, 1.0)
    mini.model.config.hidden_act = "gelu"
    fast.answer_logps(mini.model, [Row()], 0, 1.0)
    assert len(made) == 1
