"""The policy of a run at its start, or as a checkpoint has kept it."""

import copy
import importlib.util
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch

from .. import dist
from ..config import TrainingConfig
from ..policy.adapters import Reference, add_adapter, has_adapter, load_adapter
from ..policy.load import Policy, load_policy
from ..policy.shard import FullCopy, is_sharded, shard
from ..records import UserError
from .checkpoint import is_sharded_checkpoint

LOADED = (
    "device", "dtype", "tuning", "lora_rank", "lora_alpha", "seed", "gradient_checkpointing",
)  # fmt: skip


# (setting, value, package, another value that does without)
PACKAGES = (
    ("sampler", "vllm", "vllm", '"own"'),
    ("tuning", "qlora", "bitsandbytes", '"lora"'),
    ("optimizer", "adamw_8bit", "bitsandbytes", '"adamw"'),
    ("optimizer", "paged_adamw_8bit", "bitsandbytes", '"adamw"'),
)


def check_packages(cfg: TrainingConfig) -> None:
    """Raises UserError where a package that the settings need is missing: found before a model is
    downloaded in vain."""
    for name, value, package, other in PACKAGES:
        if getattr(cfg, name, "") != value or not _is_missing(package):
            continue
        if package == "vllm" and getattr(cfg, "engine_url", ""):
            continue  # another process has it
        if name == "optimizer" and dist.is_torchrun():
            continue  # which may not be possible at all: make_optimizer says so
        raise UserError(
            f"{name}={value!r} needs {package}, which is not installed: run `pip install {package}`"
            f" or `pip install -r requirements-gpu.txt`, or set {name}={other}."
        )


def _is_missing(package: str) -> bool:
    with suppress(ValueError):  # a module without a spec is one all the same
        return importlib.util.find_spec(package) is None
    return False


def load_for(
    cfg: TrainingConfig, folder: Path | None = None, given: Policy | None = None
) -> Policy:
    """The policy that a run trains.

    folder  a checkpoint to take the weights from
    given   a policy in memory, of which a copy is trained, in place of cfg.model
    Under torchrun all weights are trained sharded, and an adapter is whole in every process. An
    engine samples from it if the settings say so, or if it is sharded.
    """
    check_packages(cfg)
    policy = load_weights(cfg, folder) if given is None else _copy(given, cfg, folder)
    if getattr(cfg, "sampler", "own") == "vllm":
        from ..policy.vllm_server import with_vllm

        return with_vllm(policy, cfg)
    if is_sharded(policy.model):
        return replace(policy, engine=FullCopy(policy, getattr(torch, cfg.dtype)))
    return policy


def load_weights(cfg: TrainingConfig, folder: Path | None = None) -> Policy:
    """cfg.model, or what a checkpoint has made of it, without an engine."""
    how = {name: getattr(cfg, name) for name in LOADED}
    if cfg.tuning != "full":
        return load_policy(cfg.model, adapter=folder, **how)
    source = cfg.model if folder is None or is_sharded_checkpoint(folder) else str(folder)
    if not dist.is_distributed():
        if cfg.dtype == "bfloat16":
            raise UserError(
                'dtype="bfloat16" with tuning="full" in a process alone: weights of that format do '
                "not feel small steps. Start it by `torchrun --nproc-per-node 1 -m r1lite`, which "
                'keeps them in float32 and computes in bfloat16; or set dtype="float32".'
            )
        return load_policy(source, **how)
    policy = load_policy(source, **how | {"device": "cpu", "dtype": "float32"})
    shard(policy.model, cfg.device, getattr(torch, cfg.dtype))
    return policy


def _copy(given: Policy, cfg: TrainingConfig, folder: Path | None) -> Policy:
    """A copy, so that a notebook's cell can be run again: the policy handed in stays what it is."""
    if dist.is_distributed():
        raise UserError(
            "policy= under torchrun: weights in memory are not sharded. Save it with save_policy() "
            "and set model= to its folder."
        )
    policy = replace(given, model=copy.deepcopy(given.model).train(), engine=None)
    if cfg.tuning != "full" and not has_adapter(policy.model):
        add_adapter(policy.model, cfg.lora_rank, cfg.lora_alpha, cfg.seed)
    if folder and has_adapter(policy.model):
        load_adapter(policy.model, folder)
    elif folder:
        policy.model.load_state_dict(load_policy(str(folder), device="cpu").model.state_dict())
    return policy


def make_reference(policy: Policy, cfg: TrainingConfig) -> Reference | None:
    """What the KL penalty compares with; None where there is no penalty (beta 0)."""
    if not cfg.beta:
        return None
    return Reference(policy.model, load_weights(cfg).model if is_sharded(policy.model) else None)
