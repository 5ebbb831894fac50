"""Short formats and large vocabularies: what is rounded, what must not be, what overflows."""

import hashlib
import random
from pathlib import Path

import pytest
import torch
from conftest import VARIED, update
from test_batching import SETTINGS, RecordingOptimizer
from torch.utils._python_dispatch import TorchDispatchMode

from r1lite.learn import checkpoint, train
from r1lite.learn.batching import Row
from r1lite.learn.optimizer import make_optimizer
from r1lite.policy import load_policy, logprobs, token_logps
from r1lite.policy.adapters import trainable
from r1lite.policy.load import Policy, save_policy
from r1lite.policy.logprobs import LARGE_VOCABULARY
from r1lite.records import UserError
from r1lite.stages.base import make_model

SHAPE = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "initializer_range": 0.3,
    "tie_word_embeddings": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def large_folder(tokenizer, tmp_path_factory) -> str:
    """A random Qwen2 with as many words as real models have, more than its tokenizer knows."""
    model = make_model(tokenizer, seed=5, shape=SHAPE)
    torch.manual_seed(0)
    model.resize_token_embeddings(LARGE_VOCABULARY + 3, mean_resizing=False)
    folder = tmp_path_factory.mktemp("large") / "model"
    save_policy(Policy(model, tokenizer, SHAPE["max_position_embeddings"]), folder)
    return str(folder)


def load(folder: str, dtype: str, rounded_to: str = "") -> Policy:
    """A policy like the 16gb preset's, its adapter far from its start; its base may be rounded to a
    shorter format and still be computed with in dtype."""
    policy = load_policy(
        folder, device="cpu", dtype=dtype, tuning="lora", lora_rank=4, gradient_checkpointing=True
    )
    torch.manual_seed(1)
    with torch.no_grad():
        for p in policy.model.parameters():
            if p.requires_grad:
                p.add_(0.1 * torch.randn_like(p))
            elif rounded_to:
                p.copy_(p.to(getattr(torch, rounded_to)))
    return policy


def answers(n: int = 8) -> list[Row]:
    """Few answers that teach, beside many long ones that count in the mean and never go through
    the model: as many tokens as 128 answers of 780."""
    rng = random.Random(0)
    taught = [
        Row([5, 9, 12], [rng.randrange(3, 400) for _ in range(40)], [-9.0] * 40, (-1.0) ** i)
        for i in range(n)
    ]
    return taught + [Row([5], [7] * 1000, [-9.0] * 1000, 0.0) for _ in range(100)]


def gradient(folder: str, dtype: str, rounded_to: str = "") -> tuple[torch.Tensor, dict]:
    """Of the adapter, in one vector, after a whole update; and its part of the log."""
    policy = load(folder, dtype, rounded_to)
    optimizer = RecordingOptimizer(policy.model)
    cfg = SETTINGS.change(tuning="lora", dtype=dtype, clip_epsilon=1e9)
    figures = update(policy, answers(), optimizer, cfg, step=1)
    named = zip(policy.model.named_parameters(), optimizer.gradient, strict=True)
    return torch.cat([g.flatten() for (_, p), g in named if p.requires_grad]), figures


@pytest.mark.parametrize(("dtype", "off"), [("float16", 0.02), ("bfloat16", 0.15)])
def test_an_update_in_16_bits_is_that_in_32_but_for_rounding(large_folder, dtype, off):
    """The 16gb preset: gradients travel enlarged 2^17 times, beyond what float16 can hold."""
    found, figures = gradient(large_folder, dtype)
    expected, plain = gradient(large_folder, "float32", rounded_to=dtype)
    assert found.dtype == torch.float32 and torch.isfinite(found).all()
    assert expected.norm() > 1e-4
    assert (found - expected).norm() / expected.norm() < off
    for name in ("loss", "grad_norm"):
        assert figures[name] == pytest.approx(plain[name], rel=2 * off)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_log_probabilities_are_float32_whatever_the_weights_are(large_folder, dtype):
    """bfloat16 has 128 numbers from -2 to -4; float32 tells all of these apart."""
    policy = load(large_folder, dtype)
    ids = torch.randint(3, 8000, (8, 200), generator=torch.Generator().manual_seed(0))
    logps = token_logps(policy.model, ids, temperature=0.7)
    assert logps.dtype == torch.float32
    assert len(set(logps.flatten().tolist())) > 0.99 * logps.numel()
    with torch.no_grad():
        scores = policy.model(input_ids=ids[:, :-1], use_cache=False).logits.double() / 0.7
    expected = scores.log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    assert (logps - expected).abs().max() < 1e-4


class Largest(TorchDispatchMode):
    """Notes the size of the largest tensor that is made, backward included."""

    n = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, (list, tuple)) else [out]:
            self.n = max(self.n, x.numel() if isinstance(x, torch.Tensor) else 0)
        return out


def test_no_tensor_is_larger_than_a_part_of_the_scores(large_folder, monkeypatch):
    """Neither forward nor backward, nor without gradients; and parts give what one part gives."""
    policy = load(large_folder, "float32")
    policy.model.double()
    ids = torch.randint(3, 8000, (3, 200), generator=torch.Generator().manual_seed(0))

    def run(at_once):
        monkeypatch.setattr(logprobs, "LOGITS_AT_ONCE", at_once)
        policy.model.zero_grad()
        with Largest() as largest:
            logps = token_logps(policy.model, ids)
            logps.square().sum().backward()
        with torch.no_grad():
            assert torch.equal(token_logps(policy.model, ids), logps)
        grads = [p.grad.flatten() for p in trainable(policy.model).values()]
        return largest.n, torch.cat([logps.detach().flatten(), *grads])

    whole, parts = run(10**9), run(64 * 8195)
    assert whole[0] == 3 * 199 * 8195 and parts[0] == 64 * 8195
    torch.testing.assert_close(parts[1], whole[1], atol=1e-11, rtol=1e-11)


def test_a_gpu_has_parts_of_its_own():
    assert logprobs.LOGITS_AT_ONCE_GPU // 151_936 > 500 > logprobs.LOGITS_AT_ONCE // 151_936


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_no_step_is_made_on_a_gradient_that_is_not_finite(large_folder, dtype, poison):
    """Else Adam's moments keep it for ever, and so does the next checkpoint."""
    policy = load(large_folder, dtype)
    cfg = SETTINGS.change(tuning="lora", dtype=dtype)
    optimizer = make_optimizer(policy, cfg)
    rows = answers()
    assert update(policy, rows, optimizer, cfg, step=1)["grad_norm"] > 0
    weights = trainable(policy.model)
    before = {name: p.detach().clone() for name, p in weights.items()}
    first = next(iter(weights.values()))
    hook = first.register_hook(lambda grad: grad * poison)
    found = update(policy, rows, optimizer, cfg, step=2)["grad_norm"]
    assert not torch.isfinite(torch.tensor(found))
    assert all(torch.equal(p, before[name]) for name, p in weights.items())
    assert all(p.grad is None for p in weights.values())
    hook.remove()
    assert update(policy, rows, optimizer, cfg, step=3)["grad_norm"] > 0
    assert all(torch.isfinite(p).all() for p in weights.values())
    assert not torch.equal(first, before[next(iter(weights))])


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_a_checkpoint_is_read_onto_the_device_of_the_policy(cfg, tuning, monkeypatch):
    """Tensors that lay on a GPU would go back to that one, in every process and on a laptop."""
    cfg = cfg.change(tuning=tuning, beta=0.05, reference_every=1, steps=3)
    train(cfg, rewards=VARIED, progress=False)
    real, seen = torch.load, {}

    def load(path, **how):
        seen[path.name] = how.get("map_location")
        return real(path, **how)

    monkeypatch.setattr(torch, "load", load)
    train(cfg.change(steps=4), rewards=VARIED, progress=False)
    assert seen == dict.fromkeys(("optimizer.pt", "reference.pt"), torch.device("cpu"))


def test_files_larger_than_a_block_are_hashed_in_blocks(tmp_path, monkeypatch):
    """As sha256 of the whole: checkpoints of before are still read."""
    monkeypatch.setattr(checkpoint, "BLOCK", 1000)
    monkeypatch.setattr(Path, "read_bytes", lambda path: 1 / 0)
    files = {
        name: name.encode() * n for name, n in {"a": 0, "b": 999, "c": 1000, "d": 3001}.items()
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    expected = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    assert checkpoint.digests(tmp_path, [*files, "missing"]) == expected


def test_one_process_finds_the_checkpoint_and_all_take_it(cfg, monkeypatch):
    """What the others see on a shared disk a moment later does not count."""
    train(cfg, rewards=VARIED, progress=False)
    found, looked = checkpoint.find_checkpoint(cfg.run_dir), []
    assert found == (Path(cfg.run_dir) / "checkpoint-000006", [])
    monkeypatch.setattr(checkpoint, "damage", looked.append)
    monkeypatch.setattr(checkpoint.dist, "is_main_process", lambda: False)
    monkeypatch.setattr(checkpoint.dist, "broadcast", lambda mine: found)
    assert checkpoint.find_checkpoint(cfg.run_dir) == found and looked == []
    broken = (None, ["the newest is skipped"])
    monkeypatch.setattr(checkpoint.dist, "broadcast", lambda mine: broken)
    with pytest.raises(UserError, match="the newest is skipped"):  # in every process
        checkpoint.find_checkpoint(cfg.run_dir)
