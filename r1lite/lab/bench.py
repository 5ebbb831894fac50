"""How fast is a step, where do its seconds go, and how far is it from what the machine allows?"""

import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from ..config import RunConfig, preset
from ..learn import train
from ..learn.rollout import draw_problems, sample
from ..policy import Policy, load_policy
from ..policy.savings import SAVINGS, without
from ..policy.writers import one_thread_each
from ..prompt import render
from ..runlog import describe_run, read_json, read_jsonl, write_json
from .floor import floor, matrices, product_seconds

RESULT = Path("data/recorded/bench.json")
PARTS = ("rollout", "reward", "train", "other")


def bench_config(**changes: Any) -> RunConfig:
    """The work that is timed: 32 problems x 8 answers of at most 256 tokens, no KL."""
    work = {"max_new_tokens": 256, "steps": 6, "warmup_steps": 0}
    return preset("tiny", **work | changes)


def timed_run(cfg: RunConfig) -> list[dict[str, Any]]:
    """Train from the base in a folder that is thrown away; returns its metrics rows.

    Each with "lengths" beside what is logged: tokens of every answer that was written.
    """
    lengths: list[int] = []

    def noted(completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
        lengths.extend(map(len, completion_ids))
        return [0.0] * len(completion_ids)  # adds nothing to the reward

    with tempfile.TemporaryDirectory() as folder:
        cfg = cfg.change(run_dir=folder, checkpoint_every=10**9)
        train(cfg, rewards={"noted": noted}, progress=False)
        rows = read_jsonl(Path(folder) / "metrics.jsonl")
    n = len(lengths) // len(rows)
    return [row | {"lengths": lengths[i * n : (i + 1) * n]} for i, row in enumerate(rows)]


def figures(rows: Sequence[dict[str, Any]], cfg: RunConfig) -> dict[str, float]:
    """Medians over steps, the first left out: it pays for what is made only once.

    The seconds are those of the step in the middle, so that its parts add up.
    """
    answers, middle = cfg.n_problems * cfg.group_size, middle_step(rows)
    rows = rows[1:] if len(rows) > 1 else rows

    def mid(value) -> float:
        return median(value(row) for row in rows)

    parts = {f"{k}_s": middle["seconds"].get(k, 0.0) for k in (*PARTS, "step")}
    return parts | {
        "mean_tokens": mid(lambda r: r["length"]),
        "rollout_tokens_per_s": mid(lambda r: r["length"] * answers / r["seconds"]["rollout"]),
        "train_tokens_per_s": mid(lambda r: r["tokens_trained"] / r["seconds"]["train"]),
        "computed_tokens_per_s": mid(lambda r: r["tokens_computed"] / r["seconds"]["train"]),
        "padding_efficiency": mid(lambda r: r["tokens_trained"] / max(r["tokens_computed"], 1)),
        "kept_fraction": mid(lambda r: r["informative_groups"]),
        "reward": mid(lambda r: r["reward"]),
    }


def middle_step(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The row of the step that took the median of seconds, the first left out."""
    rows = sorted(rows[1:] if len(rows) > 1 else rows, key=lambda row: row["seconds"]["step"])
    return rows[len(rows) // 2]


def floor_of(policy: Policy, cfg: RunConfig, row: dict[str, Any]) -> dict[str, float]:
    """The floor of one step of timed_run: of its prompts, and answers as long as they were."""
    problems = draw_problems(cfg, row["step"] - 1)
    prompts = [len(policy.encode(render(p.question, cfg.template))) for p in problems]
    # products of more rows are slower again, and would raise the floor
    return floor(policy.model, prompts, row["lengths"], min(cfg.micro_batch_tokens, 2048))


def flops_share(policy: Policy, found: dict[str, float], context: float) -> dict[str, float]:
    """MFU of training: useful operations per second over the best rate of a large product.

    A token costs 6 N for N multiplied parameters and 12 x layers x width x context of attention.
    """
    n = sum(i * o * count for (i, o), count in matrices(policy.model).items())
    config = policy.model.config
    attention = 12 * config.num_hidden_layers * config.hidden_size * context
    peak = 2 * 2048**3 / product_seconds(2048, 2048, 2048, torch.float32)
    rate = found["train_tokens_per_s"] * (6 * n + attention)
    return {"peak_gflops": peak / 1e9, "train_mfu": rate / peak}


def bench(cfg: RunConfig) -> dict[str, Any]:
    """Time a few steps of a run and set them against the floor."""
    policy = load_policy(cfg.model, device=cfg.device, dtype=cfg.dtype)
    rows = timed_run(cfg)
    found, middle = figures(rows, cfg), middle_step(rows)
    if policy.device.type == "cpu":
        lowest = floor_of(policy, cfg, middle)
        found |= {f"floor_{name}_s": value for name, value in lowest.items()}
        with without("onednn_products"):
            found["floor_usual_step_s"] = floor_of(policy, cfg, middle)["step"]
        found["step_over_floor"] = found["step_s"] / lowest["step"]
        found["step_over_usual_floor"] = found["step_s"] / found["floor_usual_step_s"]
        found |= flops_share(policy, found, found["mean_tokens"])
        found["peak_memory_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        others = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        found["peak_memory_of_a_writer_mib"] = others  # with what it has in common with this
    else:
        found["peak_memory_mib"] = torch.cuda.max_memory_allocated() / 2**20
    return found


def against_generate(cfg: RunConfig, *, rounds: int = 5) -> dict[str, Any]:
    """Completion tokens per second of ours and of transformers' generate, interleaved.

    Same prompts, group, length limit, temperature and stop token; both write real answers.
    """
    policy = load_policy(cfg.model, device=cfg.device, dtype=cfg.dtype)
    policy.model.eval()
    rates: dict[str, list[float]] = {"ours": [], "generate": []}
    with one_thread_each(policy, cfg.n_problems * cfg.group_size) as writer:
        for i in range(rounds + 1):  # the first round warms up
            problems = draw_problems(cfg, i)
            begun = time.perf_counter()
            groups = sample(writer, problems, cfg, i)
            ours = sum(len(r.token_ids) for g in groups for r in g.completions)
            middle = time.perf_counter()
            prompts = [list(g.prompt_ids) for g in groups]
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
            end = time.perf_counter()
            theirs = int((written != policy.pad_id).sum())
            if i:
                rates["ours"].append(ours / (middle - begun))
                rates["generate"].append(theirs / (end - middle))
    middle = {name: median(values) for name, values in rates.items()}
    return {"rates": rates, "faster": middle["ours"] / middle["generate"]} | middle


def ladder(cfg: RunConfig, *, rounds: int = 5) -> dict[str, dict[str, float]]:
    """A step without each saving in turn: name -> median seconds, and what it saves.

    Each is timed beside a step with all of them; what it saves is the median of these differences,
    as a machine is not alike for long.
    """

    def seconds() -> float:
        return figures(timed_run(cfg), cfg)["step_s"]

    pairs: dict[str, list[tuple[float, float]]] = {name: [] for name in SAVINGS}
    for _ in range(rounds):
        for name, found in pairs.items():
            with_all = seconds()
            with without(name):
                found.append((with_all, seconds()))
    every = [with_all for found in pairs.values() for with_all, _ in found]
    return {"all on": {"step_s": median(every), "saves_s": 0.0}} | {
        name: {
            "step_s": median(other for _, other in found),
            "saves_s": median(other - with_all for with_all, other in found),
        }
        for name, found in pairs.items()
    }


def keep(part: str, value: Any, cfg: RunConfig, path: Path = RESULT, **facts: Any) -> None:
    """Put one part into the JSON file that the README's table is made from."""
    whole = read_json(path) if path.exists() else {}
    facts = describe_run(config=cfg.as_dict(), **facts)
    write_json(path, whole | {part: {"figures": value} | facts})


def table(found: dict[str, float]) -> str:
    """Markdown of one bench."""
    return "\n".join(
        ["| | |", "|---|---|"] + [f"| {name} | {value:,.3f} |" for name, value in found.items()]
    )
