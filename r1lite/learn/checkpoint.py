"""Checkpoints that a kill cannot break, and finding the newest one that is whole.

Sampling and problems are keyed by step, so there is no generator state to keep: weights,
optimizer, reference and step number are the whole state of a run.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import torch

from ..config import RESUMABLE, RunConfig
from ..policy.adapters import Reference
from ..policy.load import Policy, save_policy
from ..records import UserError
from ..runlog import atomic_path, read_json, write_json

KEEP = 2


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def save_checkpoint(
    run_dir: Path | str,
    step: int,
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    reference: Reference | None,
    cfg: RunConfig,
) -> Path:
    """Write run_dir/checkpoint-<step>, complete or not at all; keeps the newest two."""
    folder = Path(run_dir) / f"checkpoint-{step:06d}"
    with atomic_path(folder) as temporary:
        save_policy(policy, temporary)
        torch.save(optimizer.state_dict(), temporary / "optimizer.pt")
        if reference is not None:
            torch.save(reference.state_dict(), temporary / "reference.pt")
        files = {p.name: _digest(p) for p in sorted(temporary.iterdir()) if p.is_file()}
        write_json(
            temporary / "state.json", {"step": step, "config": cfg.as_dict(), "files": files}
        )
    for old in sorted(Path(run_dir).glob("checkpoint-*"))[:-KEEP]:
        shutil.rmtree(old)
    return folder


def damage(folder: Path) -> str:
    """What is wrong with a checkpoint, in words; empty if nothing is."""
    if not (folder / "state.json").exists():
        return "state.json is missing"
    try:
        files = read_json(folder / "state.json")["files"]
    except (ValueError, KeyError):
        return "state.json is damaged"
    for name, digest in files.items():
        if not (folder / name).exists():
            return f"{name} is missing"
        if _digest(folder / name) != digest:
            return f"{name} is truncated or altered"
    return ""


def find_checkpoint(run_dir: Path | str) -> tuple[Path | None, list[str]]:
    """The newest whole checkpoint of a run (None if it has none) and a line for each broken one.

    Raises UserError if there are checkpoints and none of them is whole.
    """
    warnings = []
    found = sorted(Path(run_dir).glob("checkpoint-*"), reverse=True)
    for folder in found:
        fault = damage(folder)
        if not fault:
            return folder, warnings
        warnings.append(f"{folder} is skipped: {fault}; an older checkpoint is used.")
    if found:
        raise UserError(
            f"no checkpoint in {run_dir} is whole ({'; '.join(warnings)}): a checkpoint needs all "
            "the files that its state.json lists. Restore one from a copy, or delete the folder "
            "to begin again."
        )
    return None, warnings


def check_same_run(folder: Path, cfg: RunConfig) -> int:
    """The step of a checkpoint; raises UserError if it belongs to a run with other settings."""
    state = read_json(folder / "state.json")
    saved, asked = state["config"], cfg.as_dict()
    differing = [k for k in asked if k not in RESUMABLE and saved.get(k) != asked[k]]
    if differing:
        listed = ", ".join(f"{k}: {saved.get(k)!r} then, {asked[k]!r} now" for k in differing)
        raise UserError(
            f"{folder.parent} holds a run with other settings ({listed}): a run is resumed with "
            "the settings it was begun with. Set run_dir= to a new folder, or delete this one."
        )
    return state["step"]


def load_checkpoint(
    folder: Path, optimizer: torch.optim.Optimizer, reference: Reference | None
) -> None:
    """Put optimizer and reference back; the policy is loaded from the folder like any model,
    or its adapter beside the model that it belongs to."""
    optimizer.load_state_dict(torch.load(folder / "optimizer.pt", weights_only=True))
    if reference is not None:
        reference.load_state_dict(torch.load(folder / "reference.pt", weights_only=True))
