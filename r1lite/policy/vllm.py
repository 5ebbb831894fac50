"""Rollouts by vLLM in the same process: a second copy of the weights that writes much faster.

Whoever holds a copy can hold an old one: a trainer that samples from stale weights goes on without
an error and learns badly. So every rollout begins with a push of the weights of now (an adapter is
loaded anew, whole weights are streamed in), an engine whose weights are older refuses to write, and
at the start it is tried once, with an update that nobody could overlook, whether a push arrives.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from .. import dist
from ..records import Rollout, UserError
from .adapters import has_adapter, save_adapter, trainable
from .load import Policy, find_model
from .logprobs import token_logps
from .sample import random_key
from .shard import versions, whole

PROBE_TOKENS = 16
ARRIVED = 0.1  # share of the disagreement that may be left after a push: what rounding explains


def with_vllm(
    policy: Policy, model: str, *, dtype: str, memory: float, lora_rank: int, prove: bool = True
) -> Policy:
    """The policy with a vLLM engine in this process to write its answers.

    model      the folder or hub name that the policy was loaded from
    dtype      of the engine's weights
    memory     share of the GPU's memory for the engine, its weights included
    lora_rank  of the policy's adapter, if it has one
    prove      try whether pushes arrive (see Vllm.prove)
    Raises UserError where vLLM is missing, cannot serve the model, or cannot be kept current.
    """
    try:
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # weights stay in reach
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        import vllm  # noqa: F401
    except ImportError as error:
        raise UserError(
            f'rollouts="vllm" needs vLLM ({error}): run `pip install -r requirements-gpu.txt` on a '
            'machine with an NVIDIA GPU, or set rollouts="own".'
        ) from error
    if getattr(policy.model, "is_quantized", False):
        raise UserError(
            'rollouts="vllm" with tuning="qlora": vLLM would write from the whole weights and the '
            'trainer learn from rounded ones. Set tuning="lora", or rollouts="own".'
        )
    engine = Vllm(policy, find_model(model), dtype, memory, lora_rank)
    if prove:
        engine.prove()
    engine.update(policy.model)
    room = engine.llm.llm_engine.model_config.max_model_len
    return replace(policy, engine=engine, max_length=min(policy.max_length, room))


class Vllm:
    """An engine (see Policy): update(model) pushes the weights of now, write(...) samples."""

    rows_at_once = 2**20  # it batches by itself

    def __init__(self, policy: Policy, folder: str, dtype: str, memory: float, lora_rank: int):
        from vllm import LLM

        self.policy, self.lora, self._versions = policy, None, None
        self._cuda = policy.device.type == "cuda"
        more: dict[str, Any] = {}
        if dist.started():  # one engine in each process
            more["distributed_executor_backend"] = "external_launcher"
        if has_adapter(policy.model):
            memory_folder = "/dev/shm" if os.path.isdir("/dev/shm") else None
            self._folder = tempfile.TemporaryDirectory(dir=memory_folder)
            ranks = (8, 16, 32, 64, 128, 256, 512)
            more |= {
                "enable_lora": True,
                "max_loras": 1,
                "max_lora_rank": next((r for r in ranks if r >= lora_rank), lora_rank),
            }
        if self._cuda:
            more |= {"gpu_memory_utilization": memory, "enable_sleep_mode": True}
        else:  # a compiled graph holds packed copies of the weights, which no push would reach
            more |= {"enforce_eager": True}
            os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
        self.llm = LLM(
            folder,
            dtype=dtype,
            seed=0,
            trust_remote_code=True,  # the tiny base names a tokenizer class of its own
            max_model_len=-1,  # the model's context, or what there is room for
            logprobs_mode="processed_logprobs",  # of softmax(logits / temperature)
            disable_log_stats=True,
            **more,
        )

    def update(self, model: Any) -> None:
        """Push the weights of now; every process of a torchrun has to."""
        self._wake()
        if has_adapter(model):
            from vllm.lora.request import LoRARequest

            save_adapter(model, self._folder.name)
            name = ("policy", 1, self._folder.name)
            self.llm.llm_engine.add_lora(LoRARequest(*name, load_inplace=True))
            self.lora = LoRARequest(*name)  # one that is there already, not to be read once more
        else:
            how = {"weights_iterator": _named(model), "is_checkpoint_format": True}
            self.llm.collective_rpc("reload_weights", kwargs=how)
        self.llm.reset_prefix_cache()  # keys and values of the old weights
        self._versions = versions(model)

    def write(self, *work: Any) -> list[Rollout]:
        """What sample.write_answers returns for the same prompts, keys and limits.

        With top_p below 1 the log-probabilities are those of the narrowed choice.
        Raises UserError if the policy has moved since update.
        """
        if versions(self.policy.model) != self._versions:
            raise UserError(
                "vLLM holds older weights than the policy: answers from them would teach the wrong "
                "model. Call engine.update(policy.model) before sampling."
            )
        self._wake()
        try:
            return self._write(*work)
        finally:
            if self._cuda:  # its memory is the trainer's until the next push
                self.llm.sleep(level=1)
                self._asleep = True

    def _write(self, prompts, keys, n_answers, max_new_tokens, temperature, top_p):
        from vllm import SamplingParams

        how = [
            SamplingParams(
                n=n_answers,
                max_tokens=max_new_tokens,
                temperature=temperature,
                top_p=top_p,
                top_k=-1,
                seed=random_key(key) % 2**31,
                logprobs=0,  # of the token that was chosen
                stop_token_ids=[self.policy.stop_id],
                ignore_eos=True,  # stops at our stop token, whatever the folder's settings say
                detokenize=False,
            )
            for key in keys
        ]
        inputs = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        lora = {"lora_request": self.lora} if self.lora else {}
        done = self.llm.generate(inputs, how, use_tqdm=False, **lora)
        return [
            Rollout(
                token_ids=tuple(answer.token_ids),
                logps=tuple(row[t].logprob for t, row in zip(answer.token_ids, answer.logprobs)),
                text=self.policy.decode(list(answer.token_ids)),
                truncated=answer.token_ids[-1] != self.policy.stop_id,
            )
            for request in done
            for answer in request.outputs
        ]

    def close(self) -> None:
        """Give back its memory, while the processes can still talk to each other."""
        self.llm.llm_engine.engine_core.shutdown()

    _asleep = False

    def _wake(self) -> None:
        if self._asleep:
            self.llm.wake_up()
            self._asleep = False

    def gap(self) -> float:
        """Mean difference (nats) between engine and trainer on tokens that the engine samples."""
        prompt = [self.policy.stop_id, *range(8)]
        answers = self._write([prompt], [("probe",)], 4, PROBE_TOKENS, 1.0, 1.0)
        model, device, gaps = self.policy.model, self.policy.device, []
        for answer in answers:
            tokens = torch.tensor([[*prompt, *answer.token_ids]], device=device)
            with torch.no_grad():
                logps = token_logps(model, tokens)[0, len(prompt) - 1 :].float().cpu()
            gaps.append((logps - torch.tensor(answer.logps)).abs().mean().item())
        return sum(gaps) / len(gaps)

    def prove(self) -> tuple[float, float]:
        """Try whether a push reaches all that the engine computes with.

        The policy is changed beyond recognition, the engine must disagree with it, and agree again
        after a push. Returns both gaps (nats); the policy is left as it was.
        Raises UserError if the gap stays.
        """
        self.update(self.policy.model)
        with exaggerated(self.policy.model):
            before = self.gap()
            self.update(self.policy.model)
            after = self.gap()
        if not after <= ARRIVED * before:
            raise UserError(
                f"vLLM does not take over new weights here: after an exaggerated update its "
                f"log-probabilities are off by {before:.3g} nats, and by {after:.3g} after a push. "
                'It would sample from old weights. Set rollouts="own".'
            )
        return before, after


@contextlib.contextmanager
def exaggerated(model: Any) -> Iterator[None]:
    """Inside, every trained weight is another; afterwards each is what it was, to the last bit."""
    weights = list(trainable(model).values())
    if has_adapter(model):
        kept = [weight.detach().clone() for weight in weights]
        noise = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in weights:
                weight.add_(0.3 * torch.randn(weight.shape, generator=noise).to(weight.device))
    else:  # twice or four times: exact, and never taken back by what another weight does
        with torch.no_grad():
            for i, weight in enumerate(weights):
                weight.mul_(2 + 2 * (i % 3 == 0))
    try:
        yield
    finally:
        with torch.no_grad():
            for i, weight in enumerate(weights):
                weight.copy_(kept[i]) if has_adapter(model) else weight.div_(2 + 2 * (i % 3 == 0))


def _named(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Whole weights by name, one at a time."""
    for name, weight in model.state_dict().items():
        yield name, whole(weight).detach()
