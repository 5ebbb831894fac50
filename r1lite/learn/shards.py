"""The parts of a checkpoint whose weights are cut over processes (torch.distributed.checkpoint).

Each process writes and reads its own shards, all at once; torch keeps a list of which numbers are
where, so that any other number of processes, one included, can take them up.
"""

import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import state_dict as cut

from ..policy.adapters import Reference, trainable


def _state(
    model: Any, optimizer: torch.optim.Optimizer, reference: Reference | None
) -> dict[str, Any]:
    """The state as this process holds it; tensors are those of the model, not copies."""
    moments = cut.get_optimizer_state_dict(model, optimizer)
    state = {"model": model.state_dict(), "optimizer": moments}
    return state | ({"reference": reference.state_dict()} if reference is not None else {})


def save_shards(
    folder: Path, model: Any, optimizer: torch.optim.Optimizer, reference: Reference | None
) -> None:
    """Write this process's shards; every process has to call it."""
    dcp.save(_state(model, optimizer, reference), checkpoint_id=folder)


def load_shards(
    folder: Path, model: Any, optimizer: torch.optim.Optimizer, reference: Reference | None
) -> None:
    """Read what belongs to this process, whoever wrote it, in place."""
    state = _state(model, optimizer, reference)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one process: "assuming the intent is to load in one"
        dcp.load(state, checkpoint_id=folder)
    cut.set_optimizer_state_dict(model, optimizer, state["optimizer"])


def load_full_state(
    model: Any,
    optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
    reference: Reference | None,
    kept: dict[str, torch.Tensor] | None,
) -> None:
    """Cut the state of an optimizer (and of a reference) that one process wrote."""
    names = list(trainable(model))
    named = {
        "state": {names[i]: value for i, value in state["state"].items()},
        "param_groups": [group | {"params": names} for group in state["param_groups"]],
    }
    how = cut.StateDictOptions(full_state_dict=True)
    cut.set_optimizer_state_dict(model, optimizer, named, options=how)
    if reference is not None:
        cut.set_model_state_dict(reference.copy, kept, options=how)
