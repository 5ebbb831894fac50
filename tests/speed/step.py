"""A step beside what the machine allows, and a rollout beside transformers' generate."""

import time
from statistics import median
from typing import Any

import torch

from r1lite import fast
from r1lite.config import RunConfig
from r1lite.lab.bench import middle_step, step_metrics, timed_run
from r1lite.learn.rollout import draw_problems, sample
from r1lite.policy import Policy, load_policy
from r1lite.prompt import render

from .floor import floor, matrices, product_seconds


def floor_of(policy: Policy, cfg: RunConfig, row: dict[str, Any]) -> dict[str, float]:
    """The floor of one step of timed_run: of its prompts, and answers as long as they were."""
    problems = draw_problems(cfg, row["step"] - 1)
    prompts = [len(policy.encode(render(p.question, cfg.template))) for p in problems]
    # products of more rows are slower again, and would raise the floor
    return floor(policy.model, prompts, row["lengths"], min(cfg.micro_batch_tokens, 2048))


def flops_share(policy: Policy, metrics: dict[str, float], context: float) -> dict[str, float]:
    """MFU of training: useful operations per second over the best rate of a large product.

    A token costs 6 N for N multiplied parameters and 12 x layers x width x context of attention.
    """
    n = sum(i * o * count for (i, o), count in matrices(policy.model).items())
    config = policy.model.config
    attention = 12 * config.num_hidden_layers * config.hidden_size * context
    peak = 2 * 2048**3 / product_seconds(2048, 2048, 2048, torch.float32)
    rate = metrics["train_tokens_per_s"] * (6 * n + attention)
    return {"peak_gflops": peak / 1e9, "train_mfu": rate / peak}


def against_floor(cfg: RunConfig) -> dict[str, float]:
    """A step's metrics, its floor, and how many times as long it takes."""
    policy = load_policy(cfg.model, device=cfg.device, dtype=cfg.dtype)
    rows = timed_run(cfg)
    metrics = step_metrics(rows, cfg)
    lowest = floor_of(policy, cfg, middle_step(rows))
    metrics |= {f"floor_{name}_s": value for name, value in lowest.items()}
    metrics["step_over_floor"] = metrics["step_s"] / lowest["step"]
    return metrics | flops_share(policy, metrics, metrics["mean_tokens"])


def against_generate(cfg: RunConfig, *, rounds: int = 5) -> dict[str, Any]:
    """Rollout tokens per second of ours and of transformers' generate, interleaved.

    Same prompts, group, length limit, temperature and stop token; both write real answers.
    """
    policy = load_policy(cfg.model, device=cfg.device, dtype=cfg.dtype)
    policy.model.eval()
    rates: dict[str, list[float]] = {"ours": [], "generate": []}
    with fast.sampling(policy, cfg.n_problems * cfg.group_size) as sampler:
        for i in range(rounds + 1):  # the first round warms up
            problems = draw_problems(cfg, i)
            begun = time.perf_counter()
            groups = [group for part in sample(sampler, problems, cfg, i) for group in part]
            ours = sum(len(r.token_ids) for g in groups for r in g.completions)
            middle = time.perf_counter()
            theirs = _generated(policy, [list(g.prompt_ids) for g in groups], cfg)
            end = time.perf_counter()
            if i:
                rates["ours"].append(ours / (middle - begun))
                rates["generate"].append(theirs / (end - middle))
    medians = {name: median(values) for name, values in rates.items()}
    return {"rates": rates, "faster": medians["ours"] / medians["generate"]} | medians


def _generated(policy: Policy, prompts: list[list[int]], cfg: RunConfig) -> int:
    """Tokens that transformers' generate writes to these prompts."""
    width = max(map(len, prompts))
    padded = torch.tensor([[policy.pad_id] * (width - len(p)) + p for p in prompts])
    written = policy.model.generate(
        input_ids=padded.to(policy.device),
        attention_mask=(padded != policy.pad_id).long().to(policy.device),
        num_return_sequences=cfg.group_size,
        max_new_tokens=cfg.max_new_tokens,
        do_sample=True,
        temperature=cfg.temperature,
        top_k=0,
        top_p=1.0,
        pad_token_id=policy.pad_id,
    )[:, width:]
    return int((written != policy.pad_id).sum())
