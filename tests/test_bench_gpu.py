"""The GPU bench, on a CPU: every case is measured by the code that will run there."""

import contextlib
import json

import pytest
import torch
import transformers
from speed import __main__ as speed_line
from speed import gpu as bench_gpu

from r1lite.lab.plan import plan
from r1lite.lab.shape import shape_of
from r1lite.policy import load_policy
from r1lite.records import UserError
from r1lite.runlog import read_json


@pytest.fixture(scope="module")
def shape(tmp_path_factory):
    """A folder with nothing but a config, whose vocabulary is larger than the tokenizer's."""
    folder = tmp_path_factory.mktemp("shape")
    transformers.Qwen2Config(
        vocab_size=2000, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
    ).save_pretrained(folder)  # fmt: skip
    return str(folder)


@pytest.fixture(scope="module")
def small():
    return bench_gpu.gpu_config(
        device="cpu", dtype="float32", n_problems=2, group_size=2, max_new_tokens=8, steps=2,
        lora_rank=4,
    )  # fmt: skip


@pytest.fixture(scope="module")
def measured(shape, small):
    return bench_gpu.measure(shape, small)


def test_a_case_has_all_its_figures(measured):
    assert set(bench_gpu.COLUMNS) <= set(measured)
    assert measured["step_s"] > 0 and measured["peak_gib"] > 0 and 0 < measured["train_mfu"] < 1
    # random weights: no stop token, so full length; equal groups are trained on all the same
    assert measured["mean_tokens"] == 8 and measured["informative_groups"] == 0.0
    assert measured["computed_tokens_per_s"] >= measured["train_tokens_per_s"] > 0
    assert measured["plan_off"] == pytest.approx(measured["planned_gib"] / measured["peak_gib"] - 1)


def test_mfu_by_hand(shape, small, monkeypatch):
    """A frozen weight costs a token 2 forward and 2 backward; attention 12 L q times the mean
    number of tokens before it."""
    faked = {"train_tokens_per_s": 1000.0, "mean_tokens": 8.0}
    monkeypatch.setattr(bench_gpu, "timed_run", lambda *a: [])
    monkeypatch.setattr(bench_gpu, "step_metrics", lambda rows, cfg: faked)
    monkeypatch.setattr(bench_gpu, "best_rate", lambda *a: 1e12)
    prompts = []
    monkeypatch.setattr(bench_gpu, "plan", lambda cfg, m, n: prompts.append(n) or plan(cfg, m, n))
    found = bench_gpu.measure(shape, small)
    linear = 2 * (32 * 32 * 2 + 32 * 16 * 2 + 3 * 32 * 64)
    assert shape_of(shape).n_linear == linear
    per_token = 4 * (linear + 2000 * 32) + 12 * 2 * 32 * (prompts[0] + 8) / 2
    assert found["train_mfu"] == pytest.approx(1000 * per_token / 1e12)


def test_on_a_gpu_torch_s_own_peaks_are_kept_beside_the_driver_s(shape, small, monkeypatch):
    """vLLM's pool is seen by the driver alone, what torch lost between blocks by torch alone."""
    faked = {"train_tokens_per_s": 1000.0, "mean_tokens": 8.0}
    monkeypatch.setattr(bench_gpu, "timed_run", lambda *a: [])
    monkeypatch.setattr(bench_gpu, "step_metrics", lambda rows, cfg: faked)
    monkeypatch.setattr(bench_gpu, "best_rate", lambda *a: 1e12)
    monkeypatch.setattr(bench_gpu, "random_model", lambda *a: contextlib.nullcontext(shape))
    calls = []
    for name, answer in {
        "reset_peak_memory_stats": None, "max_memory_allocated": 3 * 2**30,
        "max_memory_reserved": 4 * 2**30, "mem_get_info": (2**33, 2**34),
    }.items():  # fmt: skip
        said = lambda *a, name=name, answer=answer: (calls.append(name), answer)[1]  # noqa: E731
        monkeypatch.setattr(torch.cuda, name, said)
    found = bench_gpu.measure(shape, small.change(device="cuda"))
    assert (found["allocated_gib"], found["reserved_gib"]) == (3.0, 4.0) and found["peak_gib"] > 0
    assert calls.index("reset_peak_memory_stats") < calls.index("max_memory_allocated")


@pytest.mark.parametrize("kind", [ValueError, RuntimeError, torch.OutOfMemoryError, KeyError])
def test_an_error_of_any_kind_ends_one_case_alone(shape, small, tmp_path, monkeypatch, kind):
    """vLLM raises ValueError where its cache has no room, for one."""

    def breaks(model, cfg):
        if cfg.sampler == "vllm":
            raise kind("no room\nfor the cache")
        return dict.fromkeys(bench_gpu.COLUMNS, 0.5)

    monkeypatch.setattr(bench_gpu, "SHAPES", {"tiny": shape})
    monkeypatch.setattr(bench_gpu, "measure", breaks)
    monkeypatch.setattr(bench_gpu, "in_own_process", bench_gpu.attempt)
    said = bench_gpu.bench_gpu(small, tmp_path)
    assert f"| tiny, lora, vllm | {kind.__name__} |" in said
    kept = read_json(tmp_path / "tiny_lora_vllm.json")
    assert "no room" in kept["failed"] and kept["config"]["sampler"] == "vllm"
    assert "figures" in read_json(tmp_path / "tiny_qlora_own.json"), "the case after it"


def test_the_rate_is_that_of_a_product():
    rate = bench_gpu.best_rate(torch.device("cpu"), torch.float32, 256)
    assert 1e8 < rate < 1e13


def test_the_model_has_the_shape_and_loads_as_any(shape):
    with bench_gpu.random_model(shape, "cpu", "bfloat16") as folder:
        policy = load_policy(folder, device="cpu", dtype="bfloat16")
        assert len(policy.model.get_output_embeddings().weight) == 2000
        assert policy.decode([5, 1999, 6]) == policy.decode([5, 6]), "a token without a word"
        assert shape_of(folder) == shape_of(shape)
    with bench_gpu.random_model(shape, "cpu", "bfloat16") as again:
        twin = load_policy(again, device="cpu", dtype="bfloat16")
        pairs = zip(policy.model.parameters(), twin.model.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs), "random, but always the same"


def test_cases_are_kept_failures_tried_again_and_the_table_invents_nothing(
    shape, small, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(bench_gpu, "SHAPES", {"tiny": shape})
    asked = []

    def fake(model, cfg):
        asked.append((cfg.tuning, cfg.sampler))
        if cfg.sampler == "vllm":
            return bench_gpu.attempt(model, cfg)  # which is not installed, or has no such shape
        figures = dict.fromkeys(bench_gpu.COLUMNS, 0.5)
        return bench_gpu.describe_run() | {"figures": figures}

    monkeypatch.setattr(bench_gpu, "in_own_process", fake)
    monkeypatch.setattr(bench_gpu, "measure", _missing)
    empty = bench_gpu.table(tmp_path)
    assert empty.count("| not measured |") == 3 and not any(
        char.isdigit() for char in empty.replace("r1lite", "")
    )
    assert "no GPU was at hand" in empty
    found = bench_gpu.bench_gpu(small, tmp_path)
    assert asked == list(bench_gpu.WAYS)
    kept = read_json(tmp_path / "tiny_lora_vllm.json")
    assert kept["failed"] == "UserError: it is not there" and kept["weights"] == "random"
    assert "| tiny, lora, own | 0.50 | 0 | 0 | 50.0% | 0.5 | +50.0% |" in found
    assert "| tiny, lora, vllm | UserError |" in found and "no GPU" not in found
    assert bench_gpu.bench_gpu(small, tmp_path) == found
    assert asked[3:] == [("lora", "vllm")], "only what failed is tried again"
    assert "delete it to measure again" in capsys.readouterr().out


def _missing(model, cfg):
    raise UserError("it is not there")


def test_a_case_runs_in_a_process_of_its_own(shape, small):
    found = bench_gpu.in_own_process(shape, small.change(max_new_tokens=4))
    assert found["figures"]["mean_tokens"] == 4 and found["config"]["device"] == "cpu"
    assert json.dumps(found)


@pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without a GPU")
def test_without_a_gpu_it_says_so(capsys):
    assert speed_line.main(["gpu"]) == 2
    assert "finds no GPU here" in capsys.readouterr().err
    assert bench_gpu.gpu_config().device == "cuda"


def test_a_comparison_on_a_shape(shape, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench_gpu, "SHAPES", {"0.5B": shape})
    monkeypatch.setattr(bench_gpu, "RECORDS", tmp_path)
    small = {"dtype": "float32", "n_problems": 1, "group_size": 2, "max_new_tokens": 2}
    usual = bench_gpu.gpu_config
    monkeypatch.setattr(bench_gpu, "gpu_config", lambda **changes: usual(**small | changes))
    assert speed_line.main(["generate", "--shape", "0.5B", "--rounds", "1"]) == 0
    kept = read_json(tmp_path / "0.5B_compared.json")["generate"]
    assert kept["config"]["tuning"] == "lora" and kept["figures"]["faster"] > 0
    assert "faster" in capsys.readouterr().out
