"""Rollouts by vLLM: a second copy of the weights that writes much faster.

Whoever holds a copy can hold an old one: a trainer that samples from stale weights goes on without
an error and learns badly. So every rollout begins with a push of the weights of now (an adapter is
loaded anew, whole weights are streamed in), an engine whose weights are older refuses to write, and
at the start it is tried once, with an update that nobody could overlook, whether a push arrives.
"""

import contextlib
import math
import os
import random
import tempfile
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any

import torch

from .. import dist
from ..config import RunConfig
from ..records import Completion, UserError, needs
from .adapters import has_adapter, save_adapter, trainable
from .engine import Sampling
from .load import Policy, find_model
from .logprobs import token_logps
from .sample import random_key
from .shard import versions

# Tokens of a prompt of the proof, and of an answer. A prompt fills several blocks of a cache
# (16 tokens on a GPU, 128 on a CPU), which holds whole blocks alone: a shorter one would never meet
# keys and values of old weights.
PROBE_PROMPT, PROBE_TOKENS = 385, 16
MAX_RESIDUAL = (
    0.2  # share of the disagreement that may be left after a push: what rounding explains
)
BUCKET = 2**30  # bytes of weights that travel in one message


class Vllm:
    """An engine (policy.engine.Engine) with a copy of the weights of its own."""

    rows_at_once = 2**20  # it batches by itself
    lora: Any = None  # the adapter to write with

    def __init__(self, policy: Policy, cfg: RunConfig):
        with needs(
            'sampler="vllm"', "vllm", 'set sampler="own"', "pip install -r requirements-gpu.txt"
        ):
            os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # weights stay in reach
            os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
            os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB
            from vllm import LLM
        self.policy, self.dtype, self._versions = policy, getattr(torch, cfg.dtype), None
        adapter, cuda = has_adapter(policy.model), policy.device.type == "cuda"
        # Level 1 keeps the weights in the main memory; 2 forgets them, as all are pushed before the
        # next rollout. With dynamic sampling processes differ in how often they write in between.
        self._level = (1 if adapter or cfg.dynamic_sampling else 2) if cuda else 0
        more: dict[str, Any] = {}
        if dist.is_distributed():  # one engine in each process
            more["distributed_executor_backend"] = "external_launcher"
        if adapter:
            memory_folder = "/dev/shm" if os.path.isdir("/dev/shm") else None
            self._folder = tempfile.TemporaryDirectory(dir=memory_folder)
            rank = max(8, 1 << (cfg.lora_rank - 1).bit_length())  # vLLM knows powers of two
            more |= {"enable_lora": True, "max_lora_rank": rank}
        self.llm = LLM(
            find_model(cfg.model),
            dtype=cfg.dtype,
            skip_tokenizer_init=True,  # it gets tokens, and runs no code that a model names
            max_model_len=-1,  # the model's context, or what there is room for
            logprobs_mode="processed_logprobs",  # of softmax(logits / temperature)
            gpu_memory_utilization=cfg.engine_memory,
            enable_sleep_mode=cuda,
            enforce_eager=not cuda,  # compiled for a CPU it holds copies that no push would reach
            **more,
        )
        self.max_model_len = self.llm.llm_engine.model_config.max_model_len

    def update(self, model: Any) -> None:
        """Push the weights of now; every process of a torchrun has to."""
        self._wake("weights")
        self._push(model)
        self._wake("kv_cache")  # after the push, which needs some memory itself
        self._versions = versions(model)

    def _push(self, model: Any) -> None:
        if has_adapter(model):
            from vllm.lora.request import LoRARequest

            save_adapter(model, self._folder.name)
            name = ("policy", 1, self._folder.name)
            self.llm.llm_engine.add_lora(LoRARequest(*name, load_inplace=True))
            self.lora = LoRARequest(*name)  # one that is there already, not to be read once more
        else:
            weights = named_weights(model, self.dtype)
            how = {"weights_iterator": weights, "is_checkpoint_format": True}
            self.llm.collective_rpc("reload_weights", kwargs=how)
        self.llm.reset_prefix_cache()  # keys and values of the old weights

    def generate(self, *work: Any) -> list[Completion]:
        """What sample.sample_answers returns for the same prompts, keys and limits.

        With top_p below 1 the log-probabilities are those of the narrowed choice.
        Raises UserError if the policy has moved since update.
        """
        if versions(self.policy.model) != self._versions:
            raise UserError(
                "vLLM holds older weights than the policy: answers from them would teach the wrong "
                "model. Call engine.update(policy.model) before sampling."
            )
        if self._asleep and self._level == 2:
            self.update(self.policy.model)
        self._wake("weights", "kv_cache")
        try:
            return self._sample(*work)
        finally:
            self.sleep()

    _asleep: frozenset[str] = frozenset()  # what of it is

    def sleep(self) -> None:
        """Its memory is the trainer's until the next push; nothing on a CPU."""
        if self._level:
            self.llm.sleep(level=self._level)
            self._asleep = frozenset({"weights", "kv_cache"})

    def _wake(self, *parts: str) -> None:
        tags = [part for part in parts if part in self._asleep]
        if tags:
            torch.cuda.empty_cache()  # what the trainer has freed is kept from everyone else
            self.llm.wake_up(tags=tags)
            self._asleep -= set(tags)

    def _sample(self, prompts, keys, sampling: Sampling) -> list[Completion]:
        stops = self.policy.stop_ids
        how = {
            "n": sampling.group_size, "max_tokens": sampling.max_new_tokens, "top_k": -1,
            "temperature": sampling.temperature, "top_p": sampling.top_p, "min_p": 0,
            # for these, too, a server would take what the model's folder says
            "repetition_penalty": 1, "presence_penalty": 0, "frequency_penalty": 0,
            "logprobs": 0,  # of the token that was chosen
            # it stops at our stop tokens, whatever the folder's settings say
            "stop_token_ids": list(stops), "ignore_eos": True,
        }  # fmt: skip
        seeds = [random_key(key) % 2**31 for key in keys]
        return [
            Completion(tuple(ids), tuple(logps), self.policy.decode(ids), ids[-1] not in stops)
            for ids, logps in self._requests([list(prompt) for prompt in prompts], seeds, how)
        ]

    def _requests(self, prompts, seeds, how):
        """Token ids and their log-probabilities, answer by answer."""
        from vllm import SamplingParams

        inputs = [{"prompt_token_ids": prompt} for prompt in prompts]
        each = [SamplingParams(seed=seed, detokenize=False, **how) for seed in seeds]
        for request in self.llm.generate(inputs, each, use_tqdm=False, lora_request=self.lora):
            for answer in request.outputs:
                rows = zip(answer.token_ids, answer.logprobs)
                yield answer.token_ids, [row[token].logprob for token, row in rows]

    def close(self) -> None:
        """Give back its memory, while the processes can still talk to each other."""
        self.llm.llm_engine.engine_core.shutdown()

    def gap(self) -> float:
        """Mean difference (nats) between engine and trainer on tokens that the engine samples."""
        model, gaps = self.policy.model, []
        n, words = (
            min(PROBE_PROMPT, self.max_model_len - PROBE_TOKENS),
            range(model.config.get_text_config().vocab_size),
        )
        prompts = [random.Random(i).choices(words, k=n) for i in range(4)]
        keys = [("probe", i) for i in range(4)]
        how = Sampling(group_size=4, max_new_tokens=PROBE_TOKENS)
        for i, answer in enumerate(self._sample(prompts, keys, how)):
            tokens = torch.tensor([[*prompts[i // 4], *answer.token_ids]])
            with torch.no_grad():
                logps = token_logps(model, tokens.to(self.policy.device))[0, n - 1 :].float().cpu()
            gaps.append((logps - torch.tensor(answer.logps)).abs().mean().item())
        return sum(gaps) / len(gaps)

    def verify_sync(self) -> tuple[float, float]:
        """Try whether a push reaches all that the engine computes with.

        Every trained weight is changed, the engine must disagree with the policy, and agree again
        after it has slept and got a push. Both are compared with each other, as what rounding does
        depends on the model. Returns both gaps (nats); the policy is left as it was.
        Raises UserError if the gap stays.
        """
        self.update(self.policy.model)
        with perturbed(self.policy.model):
            before = self.gap()
            self.sleep()
            self.update(self.policy.model)
            after = self.gap()
        if not after <= MAX_RESIDUAL * before:
            raise UserError(
                f"vLLM does not take over new weights here: after an exaggerated update its "
                f"log-probabilities are off by {before:.3g} nats, and by {after:.3g} after a push. "
                'It would sample from old weights. Set sampler="own".'
            )
        return before, after


@contextlib.contextmanager
@torch.no_grad()
def perturbed(model: Any) -> Iterator[None]:
    """Inside, every trained weight is another; afterwards each is what it was, to the last bit.

    Enough to be seen in any model, and little enough that it goes on computing as models do: whole
    weights are off by 6 to 13 %, and what an adapter adds to a matrix is a quarter of its spread.
    """
    undo = _shaken(model) if has_adapter(model) else _flipped(model)
    try:
        yield
    finally:
        undo()


def _flipped(model: Any) -> Callable[[], Any]:
    """Turn the third bit of each weight's mantissa over: twice, and nothing has happened. No copy
    of a weight is made, and none of it is taken back by what another weight does."""
    weights = trainable(model).values()  # those of now: a forward pass may put whole ones there
    pieces = [p.to_local() if hasattr(p, "to_local") else p for p in weights]

    def turn_over() -> None:
        for piece in pieces:
            bit = -3 - round(math.log2(torch.finfo(piece.dtype).eps))
            piece.view({2: torch.int16, 4: torch.int32}[piece.itemsize]).bitwise_xor_(1 << bit)

    turn_over()
    return turn_over


def _shaken(model: Any) -> Callable[[], Any]:
    """Add noise to both matrices of each adapter: to A as much again, to B (0 at the start) what
    makes their product the same share of every layer's matrix."""
    kept = {weight: weight.detach().clone() for weight in trainable(model).values()}
    noise = torch.Generator().manual_seed(0)
    for layer in model.modules():
        if hasattr(layer, "lora_A"):
            a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
            product = (layer.scaling["default"] or 1) * a.std() * len(a) ** 0.5
            for weight, spread in ((a, a.std()), (b, 0.25 * layer.weight.float().std() / product)):
                weight.add_(spread * torch.randn(weight.shape, generator=noise).to(weight.device))
    return lambda: [weight.copy_(before) for weight, before in kept.items()]


@torch.no_grad()
def named_weights(model: Any, dtype: torch.dtype) -> Iterator[tuple[str, torch.Tensor]]:
    """Whole weights by name, in the engine's type; shards are put together a bucket at a time."""
    cut, end = [], 0  # shards with the bucket that they go into
    for name, weight in model.state_dict().items():
        if hasattr(weight, "to_local"):
            end += weight.numel() * dtype.itemsize
            cut.append((end // BUCKET, name, weight))
        else:
            yield name, weight.to(dtype) if weight.is_floating_point() else weight
    for _, bucket in groupby(cut, lambda row: row[0]):
        yield from _together([row[1:] for row in bucket], dtype)


def _together(bucket: list[tuple[str, Any]], dtype: torch.dtype) -> Iterator[tuple[str, Any]]:
    """The whole of weights cut by rows, all in one message; every process has to ask."""
    mine = []
    for _, weight in bucket:  # the first process has the most rows, the last may have none
        longest = -(-len(weight) // dist.world_size()) * (weight.numel() // len(weight))
        piece = weight.to_local().to(dtype).flatten()
        mine.append(torch.nn.functional.pad(piece, (0, longest - len(piece))))
    every = dist.all_gather_tensor(torch.cat(mine)).split([len(piece) for piece in mine], 1)
    for (name, weight), pieces in zip(bucket, every):
        yield name, pieces.flatten()[: weight.numel()].view(weight.shape)
