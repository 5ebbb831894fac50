"""Full training of a model that one GPU cannot hold: weights cut over the processes (FSDP2).

Each process keeps one slice of every weight, of its gradient and of its optimizer's moments, all in
float32; a layer is put together, in the type of computing, only while it is at work (Rajbhandari et
al., arXiv 1910.02054, stage 3). torch does that; what is ours is where to cut, and a whole copy to
write answers with.
"""

from dataclasses import replace
from types import MethodType
from typing import Any

import torch

from .. import dist
from ..records import Completion
from .load import Policy
from .logprobs import compute_logps, plain_head
from .sample import ROWS_AT_ONCE, sample_answers


def shard(model: Any, device: str, dtype: torch.dtype) -> None:
    """Cut a float32 model over all processes, in place.

    device  where the shards go ("auto", "cuda", "cpu"); the model may lie in the main memory
    dtype   of computing
    """
    from torch.distributed import fsdp
    from torch.distributed.device_mesh import init_device_mesh

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    plain_head(model)  # tried while the model can still be called without the others
    how = {
        "mesh": init_device_mesh(device, (dist.world_size(),)),
        "mp_policy": fsdp.MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32),
    }
    parts = model.get_decoder().modules()
    for layer in next(part for part in parts if isinstance(part, torch.nn.ModuleList)):
        fsdp.fully_shard(layer, **how)
    fsdp.fully_shard(model, **how)
    # the head's matrix is used beside the model's own forward: gather around the whole computation
    model.compute_logps = MethodType(compute_logps, model)
    fsdp.register_fsdp_forward_method(model, "compute_logps")


def is_sharded(model: Any) -> bool:
    return hasattr(model, "compute_logps")


def full_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor, put together if it is cut; every process has to ask."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def versions(model: Any) -> list[int]:
    """How often each weight was written to: another list means that a copy is out of date."""
    pieces = (p.to_local() if hasattr(p, "to_local") else p for p in model.parameters())
    return [piece._version for piece in pieces]


class FullCopy:
    """An engine: all weights in each process, in the type of computing, for sampling alone.

    Processes write answers of different lengths: with weights sharded all would have to wait for
    the longest, layer by layer.
    """

    def __init__(self, policy: Policy, dtype: torch.dtype):
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_config(policy.model.config, dtype=dtype)
        model = model.to(policy.device).eval().requires_grad_(False)
        model.generation_config = policy.model.generation_config
        self.policy = replace(policy, model=model)
        self.update(policy.model)

    @torch.no_grad()
    def update(self, model: Any) -> None:
        """Take over the weights of now; every process has to."""
        mine = dict(self.policy.model.named_parameters())
        for name, parameter in model.named_parameters():
            mine[name].copy_(full_tensor(parameter))

    rows_at_once = ROWS_AT_ONCE

    def generate(self, *work: Any) -> list[Completion]:
        return sample_answers(self.policy, *work)

    def close(self) -> None:
        """Nothing is held but memory."""
