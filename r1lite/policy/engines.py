"""Which engine writes a policy's answers, if not the model itself."""

from __future__ import annotations

from dataclasses import replace

from ..config import RunConfig
from ..records import UserError
from .load import Policy
from .vllm import Vllm
from .vllm_server import Server


def with_vllm(policy: Policy, cfg: RunConfig, prove: bool = True) -> Policy:
    """The policy with a vLLM engine to write its answers: in this process, or a server.

    cfg    says which; its dtype, and its engine_memory (the share of a GPU's memory for the engine,
           weights included), are those of an engine in this process
    prove  try whether pushes arrive (see Vllm.prove)
    Raises UserError where vLLM is missing, cannot serve the model, or cannot be kept current.
    """
    if getattr(policy.model, "is_quantized", False):
        raise UserError(
            'rollouts="vllm" with tuning="qlora": vLLM would write from the whole weights and the '
            'trainer learn from rounded ones. Set tuning="lora", or rollouts="own".'
        )
    engine = Server(policy, cfg) if cfg.engine_url else Vllm(policy, cfg)
    if prove:
        engine.prove()
    engine.update(policy.model)
    return replace(policy, engine=engine, max_length=min(policy.max_length, engine.room))
