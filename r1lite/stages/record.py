"""The recorded runs: every number in a notebook or the README comes from one of these."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ..config import preset
from ..records import UserError
from ..runlog import read_json, read_jsonl
from .arms import ARMS
from .base import build_base
from .zero import finished, run_zero

RECORDED = Path("data/recorded")
WORK = Path("runs/record")
KEPT = ("run.json", "metrics.jsonl", "evals.jsonl", "samples.jsonl")


def names() -> list[str]:
    """Every recording, e.g. "zero_countdown_seed0"."""
    return [f"{name}_seed{seed}" for name, arm in ARMS.items() for seed in arm.seeds]


def record(name: str, *, progress: bool = True) -> Path:
    """Run one recording unless it is finished, resuming it if it was stopped; keep its log."""
    if name not in names():
        raise UserError(f"recording {name!r} is unknown: it must be one of {', '.join(names())}.")
    target = RECORDED / name
    if finished(target):
        print(f"{name}: finished before, skipped")
        return target
    base, seed = name.rsplit("_seed", 1)
    arm, work = ARMS[base], WORK / name
    cfg = preset("tiny", seed=int(seed), run_dir=str(work), **arm.changes)
    if arm.base_steps:
        base_model = WORK / f"base-{arm.base_steps}"
        if not (base_model / "config.json").exists():
            build_base(
                base_model, steps=arm.base_steps, work=f"{base_model}-work", progress=progress
            )
        cfg = cfg.change(model=str(base_model))
    result, summary = run_zero(
        cfg,
        arm=arm.arm,
        rewards=arm.rewards,
        also={name: make() for name, make in arm.also.items()},
        eval_every=cfg.steps // 5,
        progress=progress,
    )
    if result.interrupted:
        raise KeyboardInterrupt
    target.mkdir(parents=True, exist_ok=True)
    for file in KEPT:
        shutil.copy(work / file, target / file)
    print(
        f"{name}: {summary['eval']['base']['pass_at_1']:.3f} -> "
        f"{summary['eval']['final']['pass_at_1']:.3f}"
    )
    return target


def load_recorded(prefix: str) -> list[dict[str, Any]]:
    """run.json, metrics, evals and samples of every finished recording whose name starts so."""
    folders = sorted(p for p in RECORDED.glob(f"{prefix}*") if finished(p))
    return [
        {
            "name": folder.name,
            "run": read_json(folder / "run.json"),
            "metrics": read_jsonl(folder / "metrics.jsonl"),
            "evals": read_jsonl(folder / "evals.jsonl"),
            "samples": read_jsonl(folder / "samples.jsonl"),
        }
        for folder in folders
    ]
