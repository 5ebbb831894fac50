"""Will it fit? The memory of a run, part by part, from a model's config alone.

A step has two phases whose temporary parts never meet: the rollout (keys and values, scores of one
token a row) and training (activations, gradients, scores in parts). The larger one decides.
Everything is bytes; T tokens go through a forward pass at once (a micro-batch).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from ..config import RunConfig
from ..records import UserError
from .load import REPO, find_model
from .logprobs import LARGE_VOCABULARY, SCORES_AT_ONCE
from .sample import ROWS_AT_ONCE

GIB = 2**30
KNOWN = REPO / "data/configs"  # configs of a few models, so that planning needs no network
NF4 = 0.516  # bytes per 4-bit weight, with the scales of its blocks and theirs
CONTEXT = 0.6 * GIB  # what CUDA takes before the first tensor
LOST = 1.05  # memory between blocks that nothing fits into
TIGHT = 0.92  # of the memory: beyond it one longer answer may be too much


@dataclass(frozen=True)
class Shape:
    """What of a decoder decides its memory.

    n_weights   numbers in all; n_linear: of them in the layers' matrices (4-bit under QLoRA)
    n_adapter   numbers of an adapter of rank 1: the sum of in + out over those matrices
    q, kv       width of all query heads, of all key heads
    normed_heads   queries and keys have norms of their own (Qwen3)
    """

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocabulary: int
    context: int
    n_weights: int
    n_linear: int
    n_adapter: int
    normed_heads: bool

    @property
    def q(self) -> int:
        return self.heads * self.head_dim

    @property
    def kv(self) -> int:
        return self.kv_heads * self.head_dim


def read_config(model: str) -> Any:
    """The config of a model folder, of a model of data/configs, or of one on the hub."""
    from transformers import AutoConfig

    known = KNOWN / f"{model.replace('/', '--')}.json"
    if known.exists():
        return AutoConfig.for_model(**json.loads(known.read_text(encoding="utf-8")))
    try:
        return AutoConfig.from_pretrained(find_model(model))
    except (OSError, ValueError) as error:
        names = ", ".join(sorted(p.stem.replace("--", "/") for p in KNOWN.glob("*.json")))
        raise UserError(
            f"there is no config of {model!r} here, and none could be fetched: a folder with "
            f"config.json is enough. Known without a network: {names}."
        ) from error


@cache
def shape_of(model: str) -> Shape:
    """Counted on a model without memory (torch's meta device), so right for any architecture."""
    from transformers import AutoModelForCausalLM

    config = read_config(model)
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(config)
    head = network.get_output_embeddings()
    linear = [m for m in network.modules() if isinstance(m, torch.nn.Linear) and m is not head]
    heads = config.num_attention_heads
    return Shape(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        heads=heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
        ffn=config.intermediate_size,
        vocabulary=config.vocab_size,
        context=config.max_position_embeddings,
        n_weights=sum(p.numel() for p in network.parameters()),
        n_linear=sum(m.weight.numel() for m in linear),
        n_adapter=sum(m.in_features + m.out_features for m in linear),
        normed_heads=any("q_norm" in name for name, _ in network.named_modules()),
    )


def kept_by_a_layer(shape: Shape, wide: int, rank: int = 0) -> int:
    """Bytes per token that a layer keeps for its backward, with a fused attention kernel.

    wide  bytes of a number: 2 or 4
    rank  of an adapter beside frozen weights; 0 where the weights themselves are trained

    Norms compute in float32. A trained matrix keeps its input; a frozen one does not, but its
    adapter does, in float32.
    """
    d, q, kv, f = shape.hidden, shape.q, shape.kv, shape.ffn
    cast = 4 if wide == 2 else 0  # a float32 copy is made only of what is narrower
    norms = 2 * (4 * d + 4)
    attention = wide * (q + 2 * kv) + 4 * shape.heads
    mlp = 3 * wide * f
    if shape.normed_heads:
        norms += (cast or 4) * (q + kv) + 4 * (shape.heads + shape.kv_heads)
        norms += 0 if rank else wide * (q + kv)
    if not rank:
        return norms + attention + mlp + wide * (2 * d + 2 * d + q + f)
    if cast:  # each of seven adapters casts its input for itself
        return norms + attention + mlp + wide * q + 4 * (5 * d + q + f) + 28 * rank
    return norms + attention + mlp + wide * (2 * d + q + f) + 28 * rank


def activations(shape: Shape, cfg: RunConfig, tokens: int) -> int:
    """Kept for the backward of a micro-batch; checkpointed layers keep their input alone, and one
    layer at a time is computed again."""
    wide = _width(cfg)
    a_layer = kept_by_a_layer(shape, wide, 0 if cfg.tuning == "full" else cfg.lora_rank)
    if cfg.gradient_checkpointing:
        return tokens * (shape.layers * wide * shape.hidden + a_layer)
    return tokens * shape.layers * a_layer


def weights(shape: Shape, cfg: RunConfig) -> float:
    if cfg.tuning == "qlora":
        return NF4 * shape.n_linear + _width(cfg) * (shape.n_weights - shape.n_linear)
    return _width(cfg) * shape.n_weights


def trained(shape: Shape, cfg: RunConfig) -> tuple[int, int]:
    """How many numbers are trained, and bytes of each."""
    if cfg.tuning == "full":
        return shape.n_weights, _width(cfg)
    return cfg.lora_rank * shape.n_adapter, 4


def keys_and_values(shape: Shape, wide: int, tokens: int) -> int:
    """The cache of so many tokens: 2 L kv numbers each."""
    return 2 * shape.layers * shape.kv * wide * tokens


def scores(shape: Shape, tokens: int, head_is_trained: bool, wide: int) -> float:
    """Of all words for a micro-batch: in parts where the vocabulary is large, else at once."""
    if shape.vocabulary < LARGE_VOCABULARY:
        return 3 * 4 * shape.vocabulary * tokens
    gradient = wide * shape.vocabulary * shape.hidden if head_is_trained else 0
    return 3 * 4 * min(SCORES_AT_ONCE, shape.vocabulary * tokens) + gradient


def _width(cfg: RunConfig) -> int:
    return {"float32": 4}.get(cfg.dtype, 2)


@dataclass(frozen=True)
class Plan:
    """Bytes by part in each phase, and the memory that there is.

    longest_answer, largest_group   what would still fit, the other settings as they are; 0 if
                                    nothing does
    """

    rollout: Mapping[str, float]
    train: Mapping[str, float]
    memory: float
    longest_answer: int = 0
    largest_group: int = 0

    @property
    def peak(self) -> float:
        return max(sum(self.rollout.values()), sum(self.train.values())) * LOST + CONTEXT

    @property
    def verdict(self) -> str:
        """fits, tight or no."""
        if self.peak > self.memory:
            return "no"
        return "tight" if self.peak > TIGHT * self.memory else "fits"

    def table(self) -> str:
        """Markdown: GiB by part and phase, the peak and what would still fit."""
        lines = ["| GiB | rollout | train |", "|---|---|---|"]
        for name in dict.fromkeys([*self.rollout, *self.train]):
            cells = [f"{part.get(name, 0) / GIB:.2f}" for part in (self.rollout, self.train)]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        sums = [f"{sum(part.values()) / GIB:.2f}" for part in (self.rollout, self.train)]
        lines.append(f"| sum | {' | '.join(sums)} |")
        return "\n".join(lines) + (
            f"\n\npeak {self.peak / GIB:.1f} GiB with CUDA's own and what is lost between blocks, "
            f"of {self.memory / GIB:.0f} GiB: **{self.verdict}**\n"
            f"longest answer that fits: {self.longest_answer or 'none'}; largest group: "
            f"{self.largest_group or 'none'}"
        )


def _parts(shape: Shape, cfg: RunConfig, prompt: int) -> tuple[dict[str, float], dict[str, float]]:
    wide, length = _width(cfg), prompt + cfg.max_new_tokens
    count, each = trained(shape, cfg)
    moments = 2 if cfg.optimizer != "adamw" else 2 * each
    stays = {"weights": weights(shape, cfg), "optimizer": moments * count}
    if cfg.tuning != "full":
        stays["adapter"] = each * count
    if cfg.beta and cfg.tuning == "full":
        stays["reference"] = weights(shape, cfg)
    rows = min(max(1, ROWS_AT_ONCE // cfg.n_answers), cfg.n_problems) * cfg.n_answers
    rollout = {
        "keys and values": keys_and_values(shape, wide, rows * length),
        "scores": (wide + 24) * shape.vocabulary * rows,  # float32 twice, float64 twice to choose
    }
    tokens = max(cfg.micro_batch_tokens, length)
    train = {
        "gradients": each * count,
        "activations": activations(shape, cfg, tokens),
        "scores": scores(shape, tokens, cfg.tuning == "full", wide),
    }
    return stays | rollout, stays | train


def plan(cfg: RunConfig, memory_gib: float, prompt_tokens: int = 256) -> Plan:
    """The memory of a run on one GPU, rollouts by the own decoding loop.

    memory_gib     of the GPU
    prompt_tokens  of the longest prompt
    """
    shape, memory = shape_of(cfg.model), memory_gib * GIB

    def fits(**changes: int) -> bool:
        return Plan(*_parts(shape, cfg.change(**changes), prompt_tokens), memory).peak <= memory

    return Plan(
        *_parts(shape, cfg, prompt_tokens),
        memory,
        _largest(lambda n: fits(max_new_tokens=n), shape.context - prompt_tokens),
        _largest(lambda n: n == 1 or fits(n_answers=n, n_minibatches=1, steps=1), 1024),
    )


def _largest(fits: Any, limit: int) -> int:
    """The largest whole number up to limit that fits (all smaller ones do); 0 if 2 does not."""
    low, high = 1, limit + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low if low > 1 else 0
