"""Steps of larger models on a GPU: seconds, tokens, MFU, memory, and how far the planner was off.

Weights are random, as no network is needed for those: they cost what trained ones cost, and hardly
ever write the stop token, so every answer has the full length. Groups whose rewards are equal (all
are) are trained on as well. Each case runs in a process of its own, and its file is the record of
it: what was measured is not measured again.
"""

import contextlib
import multiprocessing
import resource
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import torch

from r1lite.config import RunConfig, preset, repo_path
from r1lite.lab.bench import every_answer, step_metrics, timed_run
from r1lite.lab.plan import GIB, plan
from r1lite.lab.shape import read_config, shape_of
from r1lite.learn.rollout import draw_problems
from r1lite.policy import load_policy
from r1lite.policy.load import TINY_BASE, Policy, save_policy
from r1lite.prompt import render
from r1lite.records import UserError
from r1lite.runlog import describe_run, markdown_table, read_json, write_json

RECORDS = repo_path("data/recorded/gpu")
SHAPES = {f"{size}B": f"Qwen/Qwen2.5-{size}B" for size in ("0.5", "1.5", "7")}
WAYS = (("lora", "own"), ("lora", "vllm"), ("qlora", "own"))
COLUMNS = {  # figure -> the table's heading and form
    "step_s": ("step, s", "{:.2f}"),
    "rollout_tokens_per_s": ("written, tokens/s", "{:,.0f}"),
    "train_tokens_per_s": ("trained, tokens/s", "{:,.0f}"),
    "train_mfu": ("MFU", "{:.1%}"),
    "peak_gib": ("peak, GiB", "{:.1f}"),
    "plan_off": ("plan off by", "{:+.1%}"),
}


def gpu_config(**changes: Any) -> RunConfig:
    """The work: 16 problems x 8 answers of 512 tokens, an adapter of rank 32."""
    work = {
        "tuning": "lora", "dtype": "bfloat16", "lora_rank": 32, "lora_alpha": 64.0,
        "n_problems": 16, "max_new_tokens": 512, "steps": 4, "warmup_steps": 0,
        "micro_batch_tokens": 8192, "gradient_checkpointing": True, "device": "cuda",
    }  # fmt: skip
    return preset("tiny", **work | changes)


@contextlib.contextmanager
def random_model(name: str, device: str, dtype: str) -> Iterator[str]:
    """A folder with a model of that config, random weights and the tiny base's tokenizer."""
    from transformers import AutoModelForCausalLM

    tokenizer = load_policy(TINY_BASE, device="cpu").tokenizer
    config = read_config(name)
    config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        with torch.device("cuda" if device == "auto" else device):
            model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
        save_policy(Policy(model, tokenizer, 0), folder)
        del model
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        yield folder


@contextlib.contextmanager
def random_work(size: str, **changes: Any) -> Iterator[RunConfig]:
    """gpu_config on random weights of SHAPES."""
    cfg = gpu_config(**changes)
    with random_model(SHAPES[size], cfg.device, cfg.dtype) as folder:
        yield cfg.change(model=folder)


def best_rate(device: torch.device, dtype: torch.dtype, size: int = 8192) -> float:
    """Operations per second of a large matrix product, the best of ten."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    best = float("inf")
    for _ in range(10):
        wait()
        begun = time.perf_counter()
        a @ b
        wait()
        best = min(best, time.perf_counter() - begun)
    return 2 * size**3 / best


class Watch(threading.Thread):
    """Most memory that was in use on the device, whoever asked for it (vLLM has a pool of its own),
    looked at 50 times a second; of the process, on a CPU."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self._done = 0, threading.Event()

    def run(self) -> None:
        while torch.cuda.is_available() and not self._done.wait(0.02):
            free, whole = torch.cuda.mem_get_info()
            self.peak = max(self.peak, whole - free)

    def stop(self) -> float:
        """Bytes."""
        self._done.set()
        self.join()
        return self.peak or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(model: str, cfg: RunConfig) -> dict[str, Any]:
    """Figures of one case (see COLUMNS), in this process.

    MFU is that of training: 4 operations per token and frozen weight (forward, and backward to the
    inputs) and 12 per layer, query width and token before it, over the rate of a large product
    measured here. Computing activations again counts nothing.
    """
    on_gpu = cfg.device != "cpu"
    device = torch.device("cuda" if on_gpu else "cpu")
    peak_rate = best_rate(device, getattr(torch, cfg.dtype), 8192 if on_gpu else 512)
    with random_model(model, cfg.device, cfg.dtype) as folder:
        cfg = cfg.change(model=folder)
        shape = shape_of(folder)
        tokenizer = load_policy(TINY_BASE, device="cpu").tokenizer
        asked = [render(p.question, cfg.template) for p in draw_problems(cfg, 0)]
        prompt = max(len(tokenizer(text)["input_ids"]) for text in asked)
        watch = Watch()
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        watch.start()
        try:
            found = step_metrics(timed_run(cfg, every_answer), cfg)
        finally:
            peak = watch.stop()
        memory = torch.cuda.mem_get_info()[1] if on_gpu else 16 * GIB
        planned = plan(cfg, memory / GIB, prompt)
    multiplied = shape.n_linear + shape.vocabulary * shape.hidden
    attention = 12 * shape.layers * shape.q * (prompt + found["mean_tokens"]) / 2
    rate = found["train_tokens_per_s"] * (4 * multiplied + attention)
    if on_gpu:  # torch's own share of the peak, which vLLM's pool is no part of
        found["allocated_gib"] = torch.cuda.max_memory_allocated() / GIB
        found["reserved_gib"] = torch.cuda.max_memory_reserved() / GIB
    return found | {
        "peak_rate_tflops": peak_rate / 1e12,
        "train_mfu": rate / peak_rate,
        "peak_gib": peak / GIB,
        "planned_gib": planned.peak / GIB,
        "plan_off": planned.peak / peak - 1,
    }


def attempt(model: str, cfg: RunConfig) -> dict[str, Any]:
    """The record of a case: its figures, or why there are none."""
    try:
        result: dict[str, Any] = {"figures": measure(model, cfg)}
    except Exception as error:  # vLLM raises many kinds; the cases that are left go on
        result = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
    return describe_run(config=cfg.as_dict(), model=model, weights="random") | result


def in_own_process(model: str, cfg: RunConfig) -> dict[str, Any]:
    """attempt, alone in a fresh process: memory and engines of the case before are gone."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(attempt, model, cfg).result()
        except BrokenProcessPool as error:
            return {"failed": f"the process was killed, perhaps for its memory: {error}"}


def bench_gpu(cfg: RunConfig, folder: Path = RECORDS) -> str:
    """Measure all cases that have no figures yet; returns the table.

    Raises UserError where cfg.device is "cuda" and there is none.
    """
    if cfg.device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "gpu: torch finds no GPU here, and the figures would be a CPU's. Run it on a "
            "machine with an NVIDIA GPU and the packages of requirements-gpu.txt."
        )
    for size, model in SHAPES.items():
        for tuning, rollouts in WAYS:
            path = folder / f"{size}_{tuning}_{rollouts}.json"
            if path.exists() and "figures" in read_json(path):
                print(f"{path} is there: delete it to measure again", flush=True)
                continue
            print(f"{size}, {tuning}, {rollouts} ...", flush=True)
            found = in_own_process(model, cfg.change(tuning=tuning, sampler=rollouts))
            write_json(path, found)
            print(found.get("failed") or f"{found['figures']['step_s']:.2f} s a step", flush=True)
    return table(folder)


def table(folder: Path = RECORDS) -> str:
    """Markdown of what is on record; the rest is "not measured"."""
    heads = [head for head, _ in COLUMNS.values()]
    rows = []
    machines = set()
    for size in SHAPES:
        for tuning, rollouts in WAYS:
            path = folder / f"{size}_{tuning}_{rollouts}.json"
            kept = read_json(path) if path.exists() else {}
            found = kept.get("figures", {})
            if found:
                machines.add(f"{kept['hardware']}, torch {kept['versions']['torch']}")
            cells = [kept.get("failed", "not measured").split(":")[0]] + [""] * (len(COLUMNS) - 1)
            if found:
                cells = [form.format(found[name]) for name, (_, form) in COLUMNS.items()]
            rows.append([f"{size}, {tuning}, {rollouts}", *cells])
    on = "; ".join(sorted(machines)) or "no GPU was at hand: `python -m tests.speed gpu` measures"
    table = markdown_table(["model, adapter, rollouts", *heads], rows)
    return f"{table}\n\nRandom weights; {on}."
