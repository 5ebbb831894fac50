"""Every saving gives the tokens, the log-probabilities and the gradient of the plain way.

In float64, on several architectures: two are written out, one has sliding windows.
"""

import random

import pytest
import torch
from test_batching import RecordingOptimizer, assert_same, naive_gradient
from test_sampling import tokens

from r1lite.config import preset
from r1lite.learn import update as update_module
from r1lite.learn.batching import Row, to_batch
from r1lite.learn.update import AnswerLogps, update
from r1lite.policy import logprobs, products, sample_groups
from r1lite.policy import sample as sample_module
from r1lite.policy.adapters import Reference
from r1lite.policy.decoder import WrittenOut
from r1lite.policy.load import Policy
from r1lite.policy.logprobs import plain_head, token_logps
from r1lite.policy.packed import n_rows
from r1lite.policy.prompts import shares_prompts
from r1lite.policy.sample import arranged
from r1lite.policy.savings import SAVINGS, saves, without
from r1lite.policy.written import fits
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
    """A random model: (model, whether it is written out)."""
    import transformers as t

    torch.manual_seed(3)
    if kind == "qwen2":
        return t.Qwen2ForCausalLM(t.Qwen2Config(**SHAPE)), True
    if kind == "llama":
        return t.LlamaForCausalLM(t.LlamaConfig(**SHAPE, tie_word_embeddings=True)), True
    if kind == "qwen3":
        return t.Qwen3ForCausalLM(t.Qwen3Config(**SHAPE)), False
    config = t.Gemma2Config(**SHAPE, sliding_window=16)  # windows, and scores with a soft cap
    return t.Gemma2ForCausalLM(config), False


KINDS = ("qwen2", "llama", "qwen3", "gemma2")


pytestmark = pytest.mark.usefixtures("exact_norms")


@pytest.fixture(params=KINDS)
def policy(request, tokenizer) -> Policy:
    model, written_out = build(request.param)
    with torch.no_grad():  # else the biases of qwen2 are 0 and could be forgotten unnoticed
        for name, p in model.named_parameters():
            if "bias" in name or "norm" in name:
                p.add_(0.3 * torch.randn_like(p))
    model = model.double().eval()
    assert fits(model) == written_out
    return Policy(model, tokenizer, SHAPE["max_position_embeddings"])


@pytest.fixture
def problems():
    return [p for family in ("countdown", "logic") for p in make_problems(family, "train", 2)]


def draw(policy, problems):
    return sample_groups(policy, problems, group_size=3, max_new_tokens=70, seed=1)


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


@pytest.fixture
def small_blocks(monkeypatch):
    """So that the few rows of these tests make whole blocks and a rest."""
    monkeypatch.setattr(products, "BLOCK", 8)
    monkeypatch.setattr(products, "onednn_is_exact", lambda: True)  # float64 is, everywhere


@pytest.mark.parametrize("name", [None, *SAVINGS])
def test_the_gradient_is_the_naive_one_with_and_without(policy, rows, name, small_blocks):
    with without(*([name] if name else [])):
        assert_same(gradient(policy, rows), naive_gradient(policy, rows, SETTINGS))


def test_with_a_reference_too(policy, rows):
    reference = build(policy.model.config.model_type)[0].double()
    cfg = SETTINGS.change(beta=0.3)
    assert_same(
        gradient(policy, rows, cfg, Reference(reference)),
        naive_gradient(policy, rows, cfg, reference),
    )


@pytest.mark.parametrize("name", [*SAVINGS])
def test_the_same_answers_with_and_without(policy, problems, name):
    """Seventy tokens: longer than a block of the cache and than a sliding window."""
    expected = draw(policy, problems)
    lengths = {len(r.token_ids) for g in expected for r in g.completions}
    assert max(lengths) == 70 or len(lengths) > 3
    with without(name):
        found = draw(policy, problems)
    assert tokens(found) == tokens(expected)
    for a, b in zip(expected, found, strict=True):
        for x, y in zip(a.completions, b.completions, strict=True):
            assert x.logps == pytest.approx(y.logps, abs=1e-5)


def test_the_sampler_agrees_with_the_trainer_after_a_large_update(policy, problems):
    """A decoder that kept joined copies of old weights would be caught here."""
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
        answers = AnswerLogps(policy.model, rows, 0, 1.0)
        answers.of(rows, to_batch(rows, 0))
        return answers.n_real

    answers, prompts = sum(len(r.answer_ids) for r in rows), [len(r.prompt_ids) for r in rows]
    shared = shares_prompts(policy.model)
    assert computed() == answers + (sum(prompts[:4]) if shared else sum(prompts))
    with without("prompt_once_in_training"):
        assert computed() == answers + sum(prompts)
    monkeypatch.setattr(update_module, "PACK_UP_TO", max(map(len, rows)) - 1)  # masks too large
    assert computed() == answers + sum(prompts)


def test_answers_that_begin_alike_are_read_once(policy, rows):
    """Tokens that go through the model in training: those of a tree, where it is packed."""

    def computed():
        answers, batch = AnswerLogps(policy.model, rows, 0, 1.0), to_batch(rows, 0)
        return answers.of(rows, batch), answers.n_computed

    rows.sort(key=lambda row: (*row.prompt_ids, *row.answer_ids))
    found, n = computed()
    with without("alike_once"):
        plain, n_plain = computed()
    assert torch.allclose(found, plain, atol=1e-9)
    fed = [
        (tuple(r.prompt_ids), tuple(r.answer_ids[:k]))
        for r in rows
        for k in range(1, len(r.answer_ids))
    ]
    saved = (len(fed) - len(set(fed))) if shares_prompts(policy.model) else 0
    total = sum(len(row.answer_ids) for row in rows)
    if saved:
        assert saved > total / 5
        assert n_plain - n == n_rows(total) - n_rows(total - saved) > 0
    else:
        assert n == n_plain


@pytest.mark.parametrize("temperature", [0.05, 0.0])
def test_answers_that_are_alike_are_one_row_of_the_decoder(
    mini, problems, monkeypatch, temperature
):
    """And rows that no answer reads any more are not computed, up to a block of them."""
    step, n_rows = WrittenOut.step, []
    monkeypatch.setattr(sample_module, "ROUND", 1)
    monkeypatch.setattr(
        WrittenOut, "step", lambda self, tokens: n_rows.append(len(tokens)) or step(self, tokens)
    )
    groups = sample_groups(
        mini, problems, group_size=8, max_new_tokens=30, seed=1, temperature=temperature
    )
    written = [(p, r.token_ids) for p, g in enumerate(groups) for r in g.completions]
    begun = [{(p, ids[:t]) for p, ids in written if len(ids) > t} for t in range(1, 30)]
    assert n_rows == [len(found) for found in begun if found]
    if temperature == 0:
        assert max(n_rows) == len(problems)
    else:
        assert len(problems) < n_rows[0] < max(n_rows)


def test_rows_move_as_little_as_they_can():
    """Every answer finds its own beginning on its row, whatever parted, ended and moved."""
    rng = random.Random(0)
    for _ in range(200):
        total, below = rng.randrange(1, 40), rng.choice((0.0, 0.5, 1.0))
        n_rows = rng.randrange(1, total + 1)
        told = [f"row {i}" for i in range(n_rows)]
        row_of = [rng.randrange(n_rows) for _ in range(rng.randrange(1, total + 1))]
        chosen = [rng.randrange(3) for _ in row_of]
        rows, found, lead = arranged(
            torch.tensor(row_of), torch.tensor(chosen), n_rows, total, below
        )
        after = [told[i] for i in (range(n_rows) if rows is None else rows.tolist())]
        pairs = set()
        for answer, row in enumerate(found.tolist()):
            assert after[row] == told[row_of[answer]]
            first = lead[row]
            assert (row_of[first], chosen[first]) == (row_of[answer], chosen[answer])
            pairs.add((row, chosen[answer]))
        kinds = len(set(zip(row_of, chosen)))
        assert len(pairs) == kinds == len(set(found.tolist()))
        least = min(-(-kinds // 8) * 8, total)
        assert len(after) == (least if least >= n_rows or least <= below * n_rows else n_rows)
        moved = sum(told[i] != x for i, x in zip(range(n_rows), after))
        parted = kinds - len(set(row_of))
        assert moved <= parted + max(n_rows - len(after), 0)


def test_the_switchboard():
    assert all(saves(name) for name in SAVINGS)
    with without("alike_once"), without("written_out"):
        assert not saves("alike_once") and not saves("written_out")
    assert saves("alike_once")
    with pytest.raises(ValueError, match="nonsense"):
        without("nonsense").__enter__()
    with pytest.raises(AssertionError):
        saves("nonsense")
