"""Checkpoints of named states that a kill cannot break, and finding the newest one that is whole.

A state is a policy, or anything with state_dict() and load_state_dict(): an optimizer, a reference,
a critic. Sampling and problems are keyed by step, so there is no generator state to keep.
"""

import contextlib
import hashlib
import re
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from .. import dist
from ..policy.load import Policy, save_policy
from ..policy.shard import is_sharded
from ..records import UserError
from ..runlog import atomic_path, read_json, write_json
from .shards import load_full_state, load_shards, save_shards

KEEP = 2
BLOCK = 2**24  # bytes of a file read at once: those of large models are larger than the main memory
NAME = re.compile(r"checkpoint-(\d{6}|[1-9]\d{6,})")  # as save_checkpoint writes it
SHARDS = "shards"  # the folder of a checkpoint with weights sharded over processes


def checkpoints(run_dir: Path | str) -> list[Path]:
    """The checkpoints of a run, the oldest first; other names are not ours."""
    found = (path for path in Path(run_dir).glob("checkpoint-*") if NAME.fullmatch(path.name))
    return sorted(found, key=lambda path: int(path.name.split("-")[1]))


def _digest(path: Path) -> str:
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            total.update(block)
    return total.hexdigest()


def digests(folder: Path, names: list[str]) -> dict[str, str]:
    """Of each file that is there; several at a time, as hashing holds up nobody."""
    present = [name for name in names if (folder / name).is_file()]
    with ThreadPoolExecutor() as threads:
        return dict(zip(present, threads.map(lambda name: _digest(folder / name), present)))


def save_checkpoint(run_dir: Path | str, step: int, states: Mapping[str, Any]) -> Path:
    """Write run_dir/checkpoint-<step>, complete or not at all; keeps the newest two.

    states  name -> state; "policy" is the model that is trained, written as a model folder
    Where weights are sharded each process writes its part; else one process writes all.
    """
    folder = Path(run_dir) / f"checkpoint-{step:06d}"
    with contextlib.ExitStack() as stack:
        main = dist.is_main_process()
        temporary = stack.enter_context(atomic_path(folder)) if main else None
        temporary = dist.broadcast(temporary)
        if is_sharded(states["policy"].model):
            save_shards(temporary / SHARDS, states)
        elif main:
            _save_whole(temporary, states)
        dist.barrier()
        if main:
            write_digests(temporary, step)
    if dist.is_main_process():
        for old in checkpoints(run_dir)[:-KEEP]:
            shutil.rmtree(old)
    return folder


def write_digests(folder: Path, step: int) -> None:
    """Add state.json: the step, and the digest of every file, by which `damage` knows them."""
    files = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*"))]
    write_json(folder / "state.json", {"step": step, "files": digests(folder, files)})


def _save_whole(folder: Path, states: Mapping[str, Any]) -> None:
    folder.mkdir(exist_ok=True)
    for name, state in states.items():
        if isinstance(state, Policy):
            save_policy(state, folder if name == "policy" else folder / name)
        else:
            torch.save(state.state_dict(), folder / f"{name}.pt")


def damage(folder: Path) -> str:
    """What is wrong with a checkpoint or a final model, in words; empty if nothing is."""
    if not (folder / "state.json").exists():
        return "state.json is missing"
    try:
        state = read_json(folder / "state.json")
        files, step = dict(state["files"]), state["step"]
    except (ValueError, KeyError, TypeError):
        return "state.json is damaged"
    if NAME.fullmatch(folder.name) and step != int(folder.name.split("-")[1]):
        return f"state.json is that of step {step!r}"
    found = digests(folder, list(files))
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
    for folder in reversed(checkpoints(run_dir)) if dist.is_main_process() else ():
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


def step_of(folder: Path | None) -> int:
    """Updates that a checkpoint holds; 0 without one."""
    return read_json(folder / "state.json")["step"] if folder else 0


def is_sharded_checkpoint(folder: Path) -> bool:
    """Whether a checkpoint was written with weights sharded over processes."""
    return (folder / SHARDS).exists()


def load_checkpoint(folder: Path, states: Mapping[str, Any]) -> None:
    """Put the states back, into any number of processes.

    A policy is loaded from the folder like any model before (an adapter beside the model that it
    belongs to), so that its weights are never read twice; sharded ones are read here.
    """
    policy = states["policy"]
    if is_sharded_checkpoint(folder):
        load_shards(folder / SHARDS, states)
        return
    # wherever they were saved from; what is about to be sharded need not fit one GPU
    device = "cpu" if is_sharded(policy.model) else policy.device
    for name, state in states.items():
        if isinstance(state, Policy):
            continue
        saved = torch.load(folder / f"{name}.pt", map_location=device, weights_only=True)
        if is_sharded(policy.model):
            load_full_state(state, saved, policy)
        else:
            state.load_state_dict(saved)
