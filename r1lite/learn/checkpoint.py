"""Checkpoints that a kill cannot break, and finding the newest one that is whole.

Sampling and problems are keyed by step, so there is no generator state to keep: weights,
optimizer, reference and step number are the whole state of a run.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from pathlib import Path

import torch

from .. import dist
from ..config import RESUMABLE, RunConfig
from ..policy.adapters import Reference
from ..policy.load import Policy, save_policy
from ..policy.shard import is_sharded
from ..records import UserError
from ..runlog import atomic_path, read_json, write_json
from .slices import cut_whole, load_slices, save_slices

KEEP = 2


SLICES = "slices"  # the folder of a checkpoint with weights cut over processes


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
    """Write run_dir/checkpoint-<step>, complete or not at all; keeps the newest two.

    Of many processes, each writes its slices, or one writes all.
    """
    folder = Path(run_dir) / f"checkpoint-{step:06d}"
    with contextlib.ExitStack() as stack:
        temporary = stack.enter_context(atomic_path(folder)) if dist.leads() else None
        temporary = dist.led(temporary)
        if is_sharded(policy.model):
            save_slices(temporary / SLICES, policy.model, optimizer, reference)
        elif dist.leads():
            save_policy(policy, temporary)
            torch.save(optimizer.state_dict(), temporary / "optimizer.pt")
            if reference is not None:
                torch.save(reference.state_dict(), temporary / "reference.pt")
        dist.wait()
        if dist.leads():
            every = [p for p in sorted(temporary.rglob("*")) if p.is_file()]
            files = {p.relative_to(temporary).as_posix(): _digest(p) for p in every}
            write_json(
                temporary / "state.json", {"step": step, "config": cfg.as_dict(), "files": files}
            )
    if dist.leads():
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


def in_slices(folder: Path) -> bool:
    """Whether a checkpoint was written with weights cut over processes."""
    return (folder / SLICES).exists()


def load_checkpoint(
    folder: Path, policy: Policy, optimizer: torch.optim.Optimizer, reference: Reference | None
) -> None:
    """Put optimizer and reference back, and weights from slices, into any number of processes.

    Other weights are loaded from the folder like any model, an adapter beside the model that it
    belongs to.
    """
    if in_slices(folder):
        load_slices(folder / SLICES, policy.model, optimizer, reference)
        return
    state, kept = torch.load(folder / "optimizer.pt", weights_only=True), None
    if reference is not None:
        kept = torch.load(folder / "reference.pt", weights_only=True)
    if is_sharded(policy.model):
        cut_whole(policy.model, optimizer, state, reference, kept)
        return
    optimizer.load_state_dict(state)
    if reference is not None:
        reference.load_state_dict(kept)
