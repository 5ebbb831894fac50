"""The parts of a checkpoint whose weights are sharded over processes (torch.distributed).

Each process writes and reads its own shards, all at once; torch keeps a list of which numbers are
where, so that any other number of processes, one included, can take them up.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import state_dict as sharding

from ..policy.adapters import Reference, trainable
from ..policy.load import Policy


def _collect(states: Mapping[str, Any]) -> dict[str, Any]:
    """The states as this process holds them; tensors are those of the models, not copies."""
    model, collected = states["policy"].model, {}
    for name, state in states.items():
        if isinstance(state, Policy):
            collected[name] = state.model.state_dict()
        elif isinstance(state, torch.optim.Optimizer):
            collected[name] = sharding.get_optimizer_state_dict(model, state)
        else:
            collected[name] = state.state_dict()
    return collected


def save_shards(folder: Path, states: Mapping[str, Any]) -> None:
    """Write this process's shards; every process has to call it."""
    dcp.save(_collect(states), checkpoint_id=folder)


def load_shards(folder: Path, states: Mapping[str, Any]) -> None:
    """Read what belongs to this process, whoever wrote it, in place."""
    collected, model = _collect(states), states["policy"].model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one process: "assuming the intent is to load in one"
        dcp.load(collected, checkpoint_id=folder)
    for name, state in states.items():
        if isinstance(state, torch.optim.Optimizer):
            sharding.set_optimizer_state_dict(model, state, collected[name])
        elif not isinstance(state, Policy):
            state.load_state_dict(collected[name])


def load_full_state(state: Any, saved: Any, policy: Policy) -> None:
    """Shard the state of an optimizer, or of a reference, that one process wrote."""
    how = sharding.StateDictOptions(full_state_dict=True)
    if isinstance(state, torch.optim.Optimizer):
        names = list(trainable(policy.model))
        named = {
            "state": {names[i]: value for i, value in saved["state"].items()},
            "param_groups": [group | {"params": names} for group in saved["param_groups"]],
        }
        sharding.set_optimizer_state_dict(policy.model, state, named, options=how)
    elif isinstance(state, Reference):
        sharding.set_model_state_dict(state.copy, saved, options=how)
    else:
        state.load_state_dict(saved)
