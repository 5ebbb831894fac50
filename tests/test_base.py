"""The shipped bases, loaded as any reader would: plain transformers, nothing of r1lite.

AutoTokenizer of transformers 5 turns an unknown tokenizer of a qwen2 folder into Qwen2Tokenizer
without a word; every answer then becomes rubbish, and nothing fails.
"""

import shutil
from pathlib import Path

import pytest
import torch

from r1lite.learn import sft
from r1lite.policy import load_policy, sample_groups
from r1lite.records import UserError
from r1lite.runlog import append_jsonl
from r1lite.stages import base, documents
from r1lite.stages.card import write_card
from r1lite.world import FAMILIES, LANGUAGES, make_problems, reflection_words
from r1lite.world.common import MARKERS

DATA = Path(__file__).resolve().parents[1] / "data"
BASES = ("tiny-base", "tiny-base-no-reflection")


@pytest.fixture(scope="module", params=BASES)
def folder(request) -> Path:
    return DATA / request.param


@pytest.fixture(scope="module")
def loaded(folder):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)


def test_the_tokenizer_is_ours(loaded):
    tokenizer, _ = loaded
    assert "Qwen" not in type(tokenizer).__name__
    assert tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))) == documents.vocabulary()
    assert tokenizer.eos_token == "<eos>" and tokenizer.pad_token == "<pad>"


def test_every_word_makes_the_round_trip(loaded):
    tokenizer, _ = loaded
    for number, word in enumerate(documents.vocabulary()):
        assert tokenizer(word, add_special_tokens=False)["input_ids"] == [number], word
        assert tokenizer.decode([number]) == word


def test_tags_digits_and_chinese_markers_are_single_tokens_and_survive_decoding(loaded):
    tokenizer, _ = loaded
    words = [*documents.TAGS, *map(str, range(101))]
    words += [word for _, chinese in MARKERS.values() for word in chinese.split()]
    text = " ".join(words)
    ids = tokenizer(text)["input_ids"]
    assert len(ids) == len(words) and tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    tight = "<think>6</think>"
    assert tokenizer.unk_token_id in tokenizer(tight)["input_ids"], "words are split at spaces only"


def test_whole_documents_make_the_round_trip(loaded):
    tokenizer, _ = loaded
    for index in range(200):
        text = documents.document(123, index)
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_the_size_and_the_kind_of_the_model(loaded, folder):
    tokenizer, model = loaded
    assert model.config.model_type == "qwen2"
    assert sum(p.numel() for p in model.parameters()) <= 2_000_000
    assert model.get_input_embeddings().num_embeddings == len(tokenizer)
    assert model.config.eos_token_id == tokenizer.eos_token_id
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert (folder / "model.safetensors").exists()
    assert not list(folder.glob("*.bin")) and not list(folder.glob("*.pt"))


def test_it_has_learned_to_read(loaded, folder):
    """Nats per token on documents that it never read; an untrained model has about 6."""
    tokenizer, model = loaded
    total = n_tokens = 0
    for index in range(40):
        document = documents.document(9, index, reflect="no-reflection" not in folder.name)
        ids = torch.tensor([[*tokenizer(document)["input_ids"], tokenizer.eos_token_id]])
        with torch.no_grad():
            total += model(input_ids=ids, labels=ids).loss.item() * (ids.shape[1] - 1)
        n_tokens += ids.shape[1] - 1
    assert total / n_tokens < 1.5


def test_it_writes_whole_answers(folder):
    policy = load_policy(str(folder), device="cpu")
    problems = make_problems("countdown", "held_out", 6)
    groups = sample_groups(policy, problems, group_size=4, max_new_tokens=200)
    rollouts = [r for g in groups for r in g.completions]
    assert sum(not r.truncated for r in rollouts) > len(rollouts) / 2
    assert sum("</answer>" in r.text for r in rollouts) > len(rollouts) / 5


def test_only_one_base_writes_reflection_words(folder):
    """What it never read it does not write, although the words are in its vocabulary."""
    policy, markers = load_policy(str(folder), device="cpu"), set(reflection_words())
    assert markers <= set(policy.tokenizer.get_vocab())
    problems = make_problems("countdown", "held_out", 20)
    groups = sample_groups(policy, problems, group_size=8, max_new_tokens=200)
    n_written = sum(w in markers for g in groups for r in g.completions for w in r.text.split())
    if "no-reflection" in folder.name:
        assert n_written <= 1
    else:
        assert n_written > 10


def test_every_held_out_question_is_in_its_words(folder):
    policy = load_policy(str(folder), device="cpu")
    for family in FAMILIES:
        for problem in make_problems(family, "held_out", 10):
            assert problem.language in LANGUAGES
            policy.encode(problem.question)


@pytest.fixture
def small_builds(monkeypatch, tokenizer):
    monkeypatch.setattr(base, "make_tokenizer", lambda: tokenizer)  # which takes a second or two
    monkeypatch.setattr(base, "SAVE_EVERY", 2)
    monkeypatch.setattr(base, "DOCUMENTS_PER_STEP", 4)


def build(folder: Path, steps: int = 4, **settings) -> bytes:
    out = base.build_base(
        folder / "out", steps=steps, work=folder / "work", progress=False, **settings
    )
    return (out / "model.safetensors").read_bytes()


def test_a_killed_build_goes_on_bit_for_bit(small_builds, tmp_path, monkeypatch):
    straight, real, calls = build(tmp_path / "straight"), sft.sft_backward, []

    def killed(*args, **kwargs):
        calls.append(1)
        if len(calls) == 4:  # after the checkpoint at 2, in the fourth step
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(sft, "sft_backward", killed)
        with pytest.raises(KeyboardInterrupt):
            build(tmp_path / "killed")
    assert not (tmp_path / "killed" / "out").exists()
    monkeypatch.setattr(sft, "sft_backward", lambda *a, **k: calls.append(2) or real(*a, **k))
    assert build(tmp_path / "killed") == straight
    assert calls.count(2) == 2, "it began again instead of going on"
    assert build(tmp_path / "other", seed=1) != straight


def test_a_build_with_other_settings_is_refused(small_builds, tmp_path):
    build(tmp_path, steps=2)
    with pytest.raises(UserError, match="holds another run.*other examples"):
        build(tmp_path, steps=2, reflect=False)
    with pytest.raises(UserError, match="at least 1 step"):
        build(tmp_path / "none", steps=0)


def test_the_card_comes_from_the_training_log_and_the_gate(tmp_path):
    """What `gate --log` writes beside a base says what was measured, line by line."""
    copy, work = tmp_path / "my-base", tmp_path / "work"
    shutil.copytree(DATA / "tiny-base", copy)
    work.mkdir()
    row = {"step": 7, "tokens_trained": 12345, "loss": 0.25, "seconds": {"step": 120.0}}
    append_jsonl(work / "metrics.jsonl", row)
    rates = {"pass_at_1": 0.2, "interval": 0.01, "pass_at_1_lenient": 0.3, "format": 0.4}
    family = {"base": rates | {"mean_tokens": 50.0}, "after": rates | {"pass_at_1": 0.21}}
    search = {"sums_right": 0.98, "tries_valid": 1.0, "yes_when_hit": 1.0, "yes_when_miss": 0.0}
    write_card(copy, work, {"search": search, "families": {"logic": family}})
    card = (copy / "README.md").read_text(encoding="utf-8")
    assert "| sums_right | **no** |" in card and "| tries_valid | yes |" in card
    assert "| logic gains | **no** |" in card and "| logic base in band | yes |" in card
    assert "448 documents, 12,345 tokens" in card and "last loss 0.250" in card
