"""How fast is a step, where do its seconds go, and what does each optimization save?"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from ..config import Count, RunConfig, check_value, preset, repo_path
from ..fast.optimizations import OPTIMIZATIONS, disabled
from ..learn import train
from ..runlog import describe_run, markdown_table, read_json, read_jsonl, write_json

RESULT = repo_path("data/recorded/bench.json")
OTHER = Path("runs/bench.json")  # of settings that are not the recorded ones
PARTS = ("rollout", "reward", "train", "other")


def bench_config(**changes: Any) -> RunConfig:
    """The work that is timed: 32 problems x 8 answers of at most 256 tokens, no KL."""
    work = {"max_new_tokens": 256, "steps": 6, "warmup_steps": 0}
    return preset("tiny", **work | changes)


def every_answer(rewards: torch.Tensor) -> torch.Tensor:
    """Advantages (P, G) with which no answer is left out: random weights are never rewarded."""
    signs = torch.ones_like(rewards)
    signs[:, ::2] = -1.0
    return signs


def timed_run(cfg: RunConfig, advantages: Any = None) -> list[dict[str, Any]]:
    """Train from the base in a folder that is thrown away; returns its metrics rows.

    advantages  a function of the rewards, as for train
    Each with "lengths" beside what is logged: tokens of every answer that was written.
    """
    lengths: list[int] = []

    def noted(completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
        lengths.extend(map(len, completion_ids))
        return [0.0] * len(completion_ids)  # adds nothing to the reward

    with tempfile.TemporaryDirectory() as folder:
        cfg = cfg.change(run_dir=folder, checkpoint_every=10**9)
        train(cfg, rewards={"noted": noted}, advantages=advantages, progress=False)
        rows = read_jsonl(Path(folder) / "metrics.jsonl")
    n = len(lengths) // len(rows)
    return [row | {"lengths": lengths[i * n : (i + 1) * n]} for i, row in enumerate(rows)]


def step_metrics(rows: Sequence[dict[str, Any]], cfg: RunConfig) -> dict[str, float]:
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
        "informative_groups": mid(lambda r: r["informative_groups"]),
        "reward": mid(lambda r: r["reward"]),
    }


def middle_step(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The row of the step that took the median of seconds, the first left out."""
    rows = sorted(rows[1:] if len(rows) > 1 else rows, key=lambda row: row["seconds"]["step"])
    return rows[len(rows) // 2]


def bench(cfg: RunConfig) -> dict[str, Any]:
    """Time a few steps of a run, with and without the shortcuts of fast/."""
    rows = timed_run(cfg)
    metrics = step_metrics(rows, cfg)
    metrics["plain_step_s"] = step_metrics(timed_run(cfg.change(fast=False)), cfg)["step_s"]
    if torch.cuda.is_available() and cfg.device != "cpu":
        metrics["peak_memory_mib"] = torch.cuda.max_memory_allocated() / 2**20
    else:
        import resource  # Windows has none

        metrics["peak_memory_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return metrics


def ladder(cfg: RunConfig, *, rounds: int = 5) -> dict[str, dict[str, float]]:
    """A step without each optimization of fast/, and without all of them: seconds, and the ratio.

    Each is timed beside a step with all of them, alternating in this process, as a machine is not
    alike for long. ratio is the median over the pairs: 1.05 says that a step takes 5 % more.
    """
    check_value("rounds", rounds, Count)

    def seconds() -> float:
        return step_metrics(timed_run(cfg), cfg)["step_s"]

    arms = {name: (name,) for name in OPTIMIZATIONS} | {"fast/": tuple(OPTIMIZATIONS)}
    pairs: dict[str, list[tuple[float, float]]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name, off in arms.items():
            with_all = seconds()
            with disabled(*off):
                pairs[name].append((with_all, seconds()))
    every = [with_all for timed in pairs.values() for with_all, _ in timed]
    return {"all on": {"step_s": median(every), "ratio": 1.0}} | {
        name: {
            "step_s": median(other for _, other in timed),
            "ratio": median(other / with_all for with_all, other in timed),
        }
        for name, timed in pairs.items()
    }


def keep(part: str, value: Any, cfg: RunConfig, path: Path = RESULT, **facts: Any) -> None:
    """Put one part into the JSON file that the README's table is made from."""
    whole = read_json(path) if path.exists() else {}
    facts = describe_run(config=cfg.as_dict(), **facts)
    write_json(path, whole | {part: {"figures": value} | facts})


def table(found: dict[str, float]) -> str:
    """Markdown of one bench."""
    return markdown_table(["", ""], [(name, f"{value:,.3f}") for name, value in found.items()])
