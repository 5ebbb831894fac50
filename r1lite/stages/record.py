"""The recorded runs: every number in a notebook or the README comes from one of these."""

import shutil
from pathlib import Path
from typing import Any

from ..config import preset, repo_path
from ..policy import load_policy
from ..records import UserError
from ..runlog import describe_run, read_json, read_jsonl, write_json
from .arms import ARMS
from .base import build_base
from .ended import unless_interrupted
from .zero import is_finished, run_zero, search_report

RECORDED = repo_path("data/recorded")
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
    if is_finished(target):
        print(f"{name}: finished before, skipped")
        return target
    base, seed = name.rsplit("_seed", 1)
    arm, work = ARMS[base], WORK / name
    cfg = preset("tiny", seed=int(seed), run_dir=str(work), **arm.changes)
    if arm.base_steps:
        cfg = cfg.change(model=str(make_weak_base(arm.base_steps, progress=progress)))
    result, summary = run_zero(
        cfg,
        arm=arm.label,
        rewards=arm.rewards,
        also={name: make() for name, make in arm.also.items()},
        eval_every=cfg.steps // 5,
        progress=progress,
    )
    unless_interrupted(result)
    target.mkdir(parents=True, exist_ok=True)
    for file in KEPT:
        shutil.copy(work / file, target / file)
    print(
        f"{name}: {summary['eval']['base']['pass_at_1']:.3f} -> "
        f"{summary['eval']['final']['pass_at_1']:.3f}"
    )
    return target


def make_weak_base(steps: int, *, progress: bool = True) -> Path:
    """A base of so few steps; what its searches are worth is kept beside the recordings."""
    base, told = WORK / f"base-{steps}", RECORDED / f"base-{steps}.json"
    if not (base / "config.json").exists():
        build_base(base, steps=steps, work=f"{base}-work", progress=progress)
    if not told.exists():
        search = search_report(load_policy(str(base)))
        write_json(told, describe_run(base_steps=steps, seed=0, search=search))
    return base


def load_recorded(prefix: str) -> list[dict[str, Any]]:
    """run.json, metrics, evals and samples of every finished recording whose name starts so."""
    folders = sorted(p for p in RECORDED.glob(f"{prefix}*") if is_finished(p))
    logs = ("metrics", "evals", "samples")
    return [
        {"name": folder.name, "run": read_json(folder / "run.json")}
        | {log: read_jsonl(folder / f"{log}.jsonl") for log in logs}
        for folder in folders
    ]
