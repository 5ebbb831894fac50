"""Rollouts by vLLM: a second copy of the weights that writes much faster.

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
from typing import Any

import torch

from .. import dist
from ..config import RunConfig
from ..records import Rollout, UserError
from .adapters import has_adapter, save_adapter, trainable
from .load import Policy, find_model
from .logprobs import token_logps
from .sample import random_key
from .shard import versions, whole

PROBE_TOKENS = 16
ARRIVED = 0.1  # share of the disagreement that may be left after a push: what rounding explains


class Vllm:
    """An engine (see Policy): update(model) pushes the weights of now, write(...) samples."""

    rows_at_once = 2**20  # it batches by itself

    def __init__(self, policy: Policy, cfg: RunConfig):
        try:
            os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # weights stay in reach
            os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
            from vllm import LLM
        except ImportError as error:
            raise UserError(
                f'rollouts="vllm" needs vLLM ({error}): run `pip install -r requirements-gpu.txt` '
                'on a machine with an NVIDIA GPU, or set rollouts="own".'
            ) from error
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
                "max_lora_rank": next((r for r in ranks if r >= cfg.lora_rank), cfg.lora_rank),
            }
        if self._cuda:
            more |= {"gpu_memory_utilization": cfg.engine_memory, "enable_sleep_mode": True}
        else:  # a compiled graph holds packed copies of the weights, which no push would reach
            more |= {"enforce_eager": True}
            os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
        self.llm = LLM(
            find_model(cfg.model),
            dtype=cfg.dtype,
            seed=0,
            trust_remote_code=True,  # the tiny base names a tokenizer class of its own
            max_model_len=-1,  # the model's context, or what there is room for
            logprobs_mode="processed_logprobs",  # of softmax(logits / temperature)
            disable_log_stats=True,
            **more,
        )
        self.room = self.llm.llm_engine.model_config.max_model_len

    def update(self, model: Any) -> None:
        """Push the weights of now; every process of a torchrun has to."""
        self._wake()
        self._push(model)
        self._versions = versions(model)

    def _push(self, model: Any) -> None:
        if has_adapter(model):
            from vllm.lora.request import LoRARequest

            save_adapter(model, self._folder.name)
            name = ("policy", 1, self._folder.name)
            self.llm.llm_engine.add_lora(LoRARequest(*name, load_inplace=True))
            self.lora = LoRARequest(*name)  # one that is there already, not to be read once more
        else:
            how = {"weights_iterator": named_weights(model), "is_checkpoint_format": True}
            self.llm.collective_rpc("reload_weights", kwargs=how)
        self.llm.reset_prefix_cache()  # keys and values of the old weights

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
        how = {
            "n": n_answers,
            "max_tokens": max_new_tokens,
            "temperature": temperature,
            "top_p": top_p,
            "top_k": -1,
            "logprobs": 0,  # of the token that was chosen
            "stop_token_ids": [self.policy.stop_id],
            "ignore_eos": True,  # stops at our stop token, whatever the folder's settings say
        }
        seeds = [random_key(key) % 2**31 for key in keys]
        return [
            Rollout(
                token_ids=tuple(ids),
                logps=tuple(logps),
                text=self.policy.decode(list(ids)),
                truncated=ids[-1] != self.policy.stop_id,
            )
            for ids, logps in self._generate([list(prompt) for prompt in prompts], seeds, how)
        ]

    def _generate(self, prompts, seeds, how):
        """Token ids and their log-probabilities, answer by answer."""
        from vllm import SamplingParams

        inputs = [{"prompt_token_ids": prompt} for prompt in prompts]
        each = [SamplingParams(seed=seed, detokenize=False, **how) for seed in seeds]
        lora = {"lora_request": self.lora} if self.lora else {}
        for request in self.llm.generate(inputs, each, use_tqdm=False, **lora):
            for answer in request.outputs:
                rows = zip(answer.token_ids, answer.logprobs)
                yield answer.token_ids, [row[token].logprob for token, row in rows]

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


def named_weights(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Whole weights by name, one at a time."""
    for name, weight in model.state_dict().items():
        yield name, whole(weight).detach()
