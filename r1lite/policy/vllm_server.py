"""Rollouts by a vLLM server: on other GPUs, or on another machine that sees the same folders.

Weights travel as files. An adapter gets a new name with every push, since the server keeps keys and
values by name; whole weights replace the served ones, for which the server must be in development
mode. Both let anyone who reaches its port change it: start it in a network that you trust.
"""

import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import torch

from .. import dist
from ..config import RunConfig
from ..records import UserError
from .adapters import has_adapter, save_adapter
from .load import Policy
from .vllm import Vllm, named_weights

START = (
    "CUDA_VISIBLE_DEVICES=1 VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 VLLM_SERVER_DEV_MODE=1 vllm serve "
    "MODEL --logprobs-mode processed_logprobs --generation-config vllm, and for an adapter "
    "--enable-lora --max-lora-rank 64"
)
SECONDS = 3600  # for one request: a push, or the answers to a prompt
AT_ONCE = 256  # prompts under way; the server batches what it has room for


class Server(Vllm):
    """An engine (policy.engine.Engine) asked over HTTP; it refuses old weights as Vllm does."""

    _level = 0  # it has a GPU of its own, and never sleeps

    def __init__(self, policy: Policy, cfg: RunConfig):
        self.policy, self.dtype, self._versions = policy, getattr(torch, cfg.dtype), None
        self.url = cfg.engine_url.rstrip("/")
        self._folder = Path(cfg.run_dir).resolve() / "pushed"
        served = self._ask("/v1/models")["data"][0]
        self.name, self._base, self.max_model_len = (
            served["id"],
            served["id"],
            served["max_model_len"],
        )

    def _ask(self, path: str, **body: Any) -> Any:
        data = json.dumps(body).encode() if body else None
        try:
            request = Request(self.url + path, data, {"Content-Type": "application/json"})
            with urlopen(request, timeout=SECONDS) as answer:
                said = answer.read().decode()
        except (OSError, ValueError) as error:
            why = error.read().decode()[:300] if isinstance(error, HTTPError) else error
            raise UserError(
                f"engine_url={self.url!r}: no vLLM server did {path} there ({why}). Start one on "
                f"other GPUs: {START}."
            ) from error
        return json.loads(said) if said[:1] == "{" else said

    def _push(self, model: Any) -> None:
        name, old = f"{self._base}-{dist.broadcast(uuid.uuid4().hex[:8])}", self.name
        has, folder = has_adapter(model), str(self._folder)
        # shards are put together by all processes, and a shared weight is written by each name
        weights = () if has else named_weights(model, self.dtype)
        state = {name: weight.cpu().clone() for name, weight in weights if dist.is_main_process()}
        if dist.is_main_process():  # all ask one server
            self._folder.mkdir(parents=True, exist_ok=True)
            if has:
                save_adapter(model, folder)
                self._ask("/v1/load_lora_adapter", lora_name=name, lora_path=folder)
                if old != self._base:
                    self._ask("/v1/unload_lora_adapter", lora_name=old)
            else:
                from safetensors.torch import save_file

                save_file(state, self._folder / "model.safetensors", {"format": "pt"})
                model.config.save_pretrained(folder)
                how = {"weights_path": folder}
                self._ask("/collective_rpc", method="reload_weights", kwargs=how)
                self._ask("/reset_prefix_cache", all=True)
        self.name = name if has else self._base
        dist.barrier()

    def _requests(self, prompts, seeds, how) -> Iterator[tuple[list[int], list[float]]]:
        def written(prompt: list[int], seed: int) -> list[dict[str, Any]]:
            more = {"model": self.name, "prompt": prompt, "seed": seed, "return_token_ids": True}
            return self._ask("/v1/completions", **more, **how)["choices"]

        with ThreadPoolExecutor(AT_ONCE) as pool:
            for choices in pool.map(written, prompts, seeds):
                for choice in sorted(choices, key=lambda choice: choice["index"]):
                    yield choice["token_ids"], choice["logprobs"]["token_logprobs"]

    def close(self) -> None:
        """The server goes on without us with the last weights; an adapter is asked by its name."""
        self.update(self.policy.model)


def with_vllm(policy: Policy, cfg: RunConfig, prove: bool = True) -> Policy:
    """The policy with a vLLM engine to write its answers: in this process, or a server.

    cfg    says which; its dtype, and its engine_memory (the share of a GPU's memory for the engine,
           weights included), are those of an engine in this process
    prove  try whether pushes arrive (see Vllm.verify_sync)
    Raises UserError where vLLM is missing, cannot serve the model, or cannot be kept current.
    """
    if getattr(policy.model, "is_quantized", False):
        raise UserError(
            'sampler="vllm" with tuning="qlora": vLLM would write from the whole weights and the '
            'trainer learn from rounded ones. Set tuning="lora", or sampler="own".'
        )
    engine = Server(policy, cfg) if cfg.engine_url else Vllm(policy, cfg)
    if prove:
        engine.verify_sync()
    engine.update(policy.model)
    return replace(policy, engine=engine, max_length=min(policy.max_length, engine.max_model_len))
