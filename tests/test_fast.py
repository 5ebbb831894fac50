"""Every optimization gives the tokens, the log-probabilities and the gradient of the plain way.

In float64, on several architectures: two are fused, one has sliding windows.
"""

import random

import pytest
import torch
from conftest import update
from test_batching import RecordingOptimizer, assert_same, naive_gradient
from test_sampling import tokens

from r1lite import fast
from r1lite.config import preset
from r1lite.fast.decoder import FusedDecoder, FusedSampler
from r1lite.fast.fused import supports_fused
from r1lite.fast.optimizations import OPTIMIZATIONS, disabled, is_enabled
from r1lite.fast.shared_prompts import supports_packed
from r1lite.learn.batching import Row, to_batch
from r1lite.policy import logprobs, sample_groups
from r1lite.policy.adapters import Reference
from r1lite.policy.load import Policy
from r1lite.policy.logprobs import plain_head, token_logps
from r1lite.policy.sample import HFDecoder, surviving_rows
from r1lite.world import make_problems

SHAPE = {
    "vocab_size": 541,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
SETTINGS = preset("tiny", max_grad_norm=1e9, clip_epsilon=0.2, micro_batch_tokens=60)


def build(kind: str):
    """A random model: (model, whether it has a fused form)."""
    import transformers as t

    torch.manual_seed(3)
    if kind == "qwen2":
        return t.Qwen2ForCausalLM(t.Qwen2Config(**SHAPE)), True
    if kind == "llama":
        return t.LlamaForCausalLM(t.LlamaConfig(**SHAPE, tie_word_embeddings=True)), True
    if kind == "qwen3":
        return t.Qwen3ForCausalLM(t.Qwen3Config(**SHAPE)), False
    config = t.Gemma2Config(**SHAPE, sliding_window=16)  # windows, and logits with a soft cap
    return t.Gemma2ForCausalLM(config), False


KINDS = ("qwen2", "llama", "qwen3", "gemma2")


pytestmark = pytest.mark.usefixtures("exact_norms")


@pytest.fixture(params=KINDS)
def policy(request, tokenizer) -> Policy:
    model, is_fused = build(request.param)
    with torch.no_grad():  # else the biases of qwen2 are 0 and could be forgotten unnoticed
        for name, p in model.named_parameters():
            if "bias" in name or "norm" in name:
                p.add_(0.3 * torch.randn_like(p))
    model = model.double().eval()
    assert supports_fused(model) == is_fused
    return Policy(model, tokenizer, SHAPE["max_position_embeddings"])


@pytest.fixture
def problems():
    return [p for family in ("countdown", "logic") for p in make_problems(family, "train", 2)]


DRAW = {"group_size": 3, "max_new_tokens": 70, "seed": 1}


def draw(policy, problems):
    with fast.sampling(policy, 1) as sampler:
        return sample_groups(sampler, problems, **DRAW)


@pytest.fixture
def rows(policy, problems) -> list[Row]:
    """Answers of 1 to 30 tokens to four prompts, some alike; a third have no advantage."""
    rng, made = random.Random(0), []
    prompts = [policy.encode(p.question) for p in problems]
    begins = [rng.randrange(3, 400) for _ in range(11)]
    for i in range(16):
        answer = [rng.randrange(3, 400) for _ in range(rng.choice((0, 3, 8, 19)))] + [1]
        answer = begins[: rng.choice((0, 4, 11))] + answer
        answer = made[i - 8].answer_ids if i > 13 else answer  # the very same
        ids = torch.tensor([[*prompts[i % 4], *answer]])
        with torch.no_grad():
            logps = token_logps(policy.model, ids)[0, len(prompts[i % 4]) - 1 :]
        logps = [float(logp) + rng.gauss(0, 0.2) for logp in logps]
        made.append(Row(prompts[i % 4], answer, logps, 0.0 if i % 3 == 0 else rng.gauss(0, 1)))
    return made


def gradient(policy, rows, cfg=SETTINGS, reference=None):
    optimizer = RecordingOptimizer(policy.model)
    update(policy, rows, optimizer, cfg, step=1, reference=reference)
    return optimizer.gradient


@pytest.mark.parametrize("name", [None, *OPTIMIZATIONS])
def test_the_gradient_is_the_naive_one_with_and_without(policy, rows, name):
    with disabled(*([name] if name else [])):
        assert_same(gradient(policy, rows), naive_gradient(policy, rows, SETTINGS))


def test_with_a_reference_too(policy, rows):
    reference = build(policy.model.config.model_type)[0].double()
    cfg = SETTINGS.change(beta=0.3)
    assert_same(
        gradient(policy, rows, cfg, Reference(reference)),
        naive_gradient(policy, rows, cfg, reference),
    )


@pytest.mark.parametrize("name", [*OPTIMIZATIONS])
def test_the_same_answers_with_and_without(policy, problems, name):
    """Seventy tokens: longer than a block of the cache and than a sliding window."""
    expected = draw(policy, problems)
    lengths = {len(r.token_ids) for g in expected for r in g.completions}
    assert max(lengths) == 70 or len(lengths) > 3
    with disabled(name):
        found = draw(policy, problems)
    plain = sample_groups(policy, problems, **DRAW)
    assert tokens(found) == tokens(plain)
    assert tokens(found) == tokens(expected)
    for a, b in zip(expected, found, strict=True):
        for x, y in zip(a.completions, b.completions, strict=True):
            assert x.logps == pytest.approx(y.logps, abs=1e-5)


def test_the_sampler_agrees_with_the_trainer_after_a_large_update(policy, problems):
    """A decoder that kept fused copies of old weights would be caught here."""
    draw(policy, problems)
    with torch.no_grad():
        for p in policy.model.parameters():
            p.mul_(1.2)
    for group in draw(policy, problems):
        for r in group.completions:
            ids = torch.tensor([[*group.prompt_ids, *r.token_ids]])
            with torch.no_grad():
                logps = token_logps(policy.model, ids)[0, len(group.prompt_ids) - 1 :]
            assert r.logps == pytest.approx(logps.tolist(), abs=1e-5)


def test_a_large_vocabulary_takes_chunks_and_gives_the_same(policy, rows, monkeypatch):
    expected = gradient(policy, rows)
    if plain_head(policy.model)[0] is None:
        assert policy.model.config.model_type == "gemma2"
    monkeypatch.setattr(logprobs, "LARGE_VOCABULARY", 1)
    assert_same(gradient(policy, rows), expected)


def test_only_a_plain_head_is_taken_apart(policy):
    soft_cap = policy.model.config.model_type == "gemma2"
    assert (plain_head(policy.model)[0] is None) == soft_cap


def test_a_prompt_is_read_once_a_group(policy, rows, monkeypatch):
    """The number of tokens that go through the model, with and without sharing."""

    def computed():
        answers = fast.answer_logps(policy.model, rows, 0, 1.0)
        answers.of(rows, to_batch(rows, 0))
        return answers.n_real

    answers, prompts = sum(len(r.answer_ids) for r in rows), [len(r.prompt_ids) for r in rows]
    shared = supports_packed(policy.model)
    assert computed() == answers + (sum(prompts[:4]) if shared else sum(prompts))
    with disabled("packed_training"):
        assert computed() == answers + sum(prompts)
    monkeypatch.setattr(fast, "PACK_UP_TO", max(map(len, rows)) - 1)  # masks too large
    assert computed() == answers + sum(prompts)


@pytest.mark.parametrize("kind", [HFDecoder, FusedDecoder])
def test_rows_of_finished_answers_are_dropped(mini, problems, monkeypatch, kind):
    """Of the plain decoder once enough have ended, of the fused one at once."""
    step, n_rows = kind.step, []
    monkeypatch.setattr(kind, "step", lambda self, x: n_rows.append(len(x)) or step(self, x))
    how = {"group_size": 8, "max_new_tokens": 30, "seed": 1}
    if kind is HFDecoder:
        groups = sample_groups(mini, problems, **how)
    else:
        with fast.sampling(mini, 1) as sampler:
            groups = sample_groups(sampler, problems, **how)
    lengths = [len(r.token_ids) for g in groups for r in g.completions]
    live = [sum(n > t for n in lengths) for t in range(1, max(lengths))]
    assert len(n_rows) == len(live) and n_rows[-1] < n_rows[0]
    if kind is FusedDecoder:
        assert n_rows == live
    else:
        assert all(n <= rows and n > 0.85 * rows for n, rows in zip(live, n_rows) if n < rows)


def test_rows_move_as_little_as_they_can():
    rng = random.Random(0)
    for _ in range(200):
        live = [rng.random() < 0.6 for _ in range(rng.randrange(1, 30))]
        rows = surviving_rows(torch.tensor(live)).tolist()
        alive = [i for i, is_live in enumerate(live) if is_live]
        assert sorted(rows) == alive
        assert all(rows[i] == i for i in alive if i < len(alive)), "one that can stay stays"


def test_what_is_chosen_and_that_it_can_be_switched_off(mini, cfg):
    with fast.sampling(mini, 1) as sampler:
        assert type(sampler.engine) is FusedSampler and sampler.model is mini.model
        with fast.sampling(sampler, 64) as same:
            assert same is sampler, "a policy with an engine is left alone"
    mini.model.config.hidden_act = "gelu"
    with fast.sampling(mini, 1) as sampler:
        assert sampler is mini
    assert all(is_enabled(name) for name in OPTIMIZATIONS)
    with disabled("workers"), disabled("fused_decoding"):
        assert not is_enabled("workers") and not is_enabled("fused_decoding")
    assert is_enabled("workers")
    with pytest.raises(ValueError, match="nonsense"):
        disabled("nonsense").__enter__()
    with pytest.raises(KeyError):
        is_enabled("nonsense")


def test_a_run_without_shortcuts_is_the_same_to_rounding(cfg, tmp_path):
    from conftest import VARIED

    from r1lite.learn import train

    fast_run = train(cfg, rewards=VARIED, progress=False).logs
    plain = cfg.change(fast=False, run_dir=str(tmp_path / "plain"))
    for a, b in zip(fast_run, train(plain, rewards=VARIED, progress=False).logs, strict=True):
        for name in ("reward", "length", "entropy", "grad_norm", "loss"):
            assert a[name] == pytest.approx(b[name], abs=1e-4), name
