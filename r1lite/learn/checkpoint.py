"""Checkpoints that a kill cannot break, and finding the newest one that is whole.

Sampling and problems are keyed by step, so there is no generator state to keep: weights,
optimizer, reference and step number are the whole state of a run.
"""

import contextlib
import hashlib
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from .. import dist
from ..config import RESUMABLE, RunConfig
from ..policy.adapters import Reference
from ..policy.load import Policy, save_policy
from ..policy.shard import is_sharded
from ..records import UserError
from ..runlog import atomic_path, read_json, write_json
from .shards import load_full_state, load_shards, save_shards

KEEP = 2
BLOCK = 2**24  # bytes of a file read at once: those of large models are larger than the main memory
SHARDS = "shards"  # the folder of a checkpoint with weights cut over processes


def _digest(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            found.update(block)
    return found.hexdigest()


def _digests(folder: Path, names: list[str]) -> dict[str, str]:
    """Of each file that is there; several at a time, as hashing holds up nobody."""
    there = [name for name in names if (folder / name).is_file()]
    with ThreadPoolExecutor() as threads:
        return dict(zip(there, threads.map(lambda name: _digest(folder / name), there)))


def save_checkpoint(
    run_dir: Path | str,
    step: int,
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    reference: Reference | None,
    cfg: RunConfig,
) -> Path:
    """Write run_dir/checkpoint-<step>, complete or not at all; keeps the newest two.

    Of many processes, each writes its shards, or one writes all.
    """
    folder = Path(run_dir) / f"checkpoint-{step:06d}"
    with contextlib.ExitStack() as stack:
        temporary = stack.enter_context(atomic_path(folder)) if dist.is_main_process() else None
        temporary = dist.broadcast(temporary)
        if is_sharded(policy.model):
            save_shards(temporary / SHARDS, policy.model, optimizer, reference)
        elif dist.is_main_process():
            save_policy(policy, temporary)
            torch.save(optimizer.state_dict(), temporary / "optimizer.pt")
            if reference is not None:
                torch.save(reference.state_dict(), temporary / "reference.pt")
        dist.barrier()
        if dist.is_main_process():
            every = [p.relative_to(temporary).as_posix() for p in sorted(temporary.rglob("*"))]
            state = {"config": cfg.as_dict(), "files": _digests(temporary, every)}
            write_json(temporary / "state.json", {"step": step} | state)
    if dist.is_main_process():
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
    found = _digests(folder, list(files))
    for name, digest in files.items():
        if found.get(name) != digest:
            return f"{name} is {'truncated or altered' if name in found else 'missing'}"
    return ""


def find_checkpoint(run_dir: Path | str) -> tuple[Path | None, list[str]]:
    """The newest whole checkpoint of a run (None if it has none) and a line for each broken one.

    Of many processes one looks, as they have to agree.
    Raises UserError if there are checkpoints and none of them is whole.
    """
    newest, warnings = None, []
    for folder in (
        sorted(Path(run_dir).glob("checkpoint-*"), reverse=True) if dist.is_main_process() else ()
    ):
        fault = damage(folder)
        if not fault:
            newest = folder
            break
        warnings.append(f"{folder} is skipped: {fault}; an older checkpoint is used.")
    newest, warnings = dist.broadcast((newest, warnings))
    if warnings and newest is None:
        raise UserError(
            f"no checkpoint in {run_dir} is whole ({'; '.join(warnings)}): a checkpoint needs all "
            "the files that its state.json lists. Restore one from a copy, or delete the folder "
            "to begin again."
        )
    return newest, warnings


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


def is_sharded_checkpoint(folder: Path) -> bool:
    """Whether a checkpoint was written with weights cut over processes."""
    return (folder / SHARDS).exists()


def load_checkpoint(
    folder: Path, policy: Policy, optimizer: torch.optim.Optimizer, reference: Reference | None
) -> None:
    """Put optimizer and reference back, and weights from shards, into any number of processes.

    Other weights are loaded from the folder like any model, an adapter beside the model that it
    belongs to.
    """
    if is_sharded_checkpoint(folder):
        load_shards(folder / SHARDS, policy.model, optimizer, reference)
        return
    # wherever they were saved from; what is about to be cut need not fit one GPU
    where = "cpu" if is_sharded(policy.model) else policy.device
    how = {"map_location": where, "weights_only": True}
    state = torch.load(folder / "optimizer.pt", **how)
    kept = None if reference is None else torch.load(folder / "reference.pt", **how)
    if is_sharded(policy.model):
        load_full_state(policy.model, optimizer, state, reference, kept)
        return
    optimizer.load_state_dict(state)
    if reference is not None:
        reference.load_state_dict(kept)
