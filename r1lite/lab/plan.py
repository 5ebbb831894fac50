"""Will it fit? The memory of a run, part by part, from a model's config alone.

A step has two phases whose temporary parts never meet: the rollout (keys and values, scores of one
token a row) and training (activations, gradients, scores in parts). The larger one decides.
Everything is bytes; T tokens go through a forward pass at once (a micro-batch).
"""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import pandas

from ..config import LONGEST, Count, Range, RunConfig, check_value
from ..policy.logprobs import LARGE_VOCABULARY, LOGITS_AT_ONCE_GPU
from ..policy.sample import ROWS_AT_ONCE
from ..runlog import markdown_table
from .shape import Shape, shape_of

GIB = 2**30
NF4 = 0.516  # bytes per 4-bit weight, with the scales of its blocks and theirs
CONTEXT = 0.6 * GIB  # what CUDA takes before the first tensor
ASLEEP = 1.5 * GIB  # what vLLM keeps while it sleeps, and needs beside weights and cache awake
LOST = 1.05  # memory between blocks that nothing fits into
TIGHT = 0.92  # of the memory: beyond it one longer answer may be too much
# Data sheets: 10^12 operations per second on 16-bit matrices (dense), 10^9 bytes read per second
GPUS: dict[str, tuple[int, int]] = {
    "T4": (65, 320),
    "L4": (121, 300),
    "RTX 3090": (71, 936),
    "RTX 4090": (165, 1008),
    "A100": (312, 2039),
    "H100": (989, 3350),
    "H200": (989, 4800),
}
# Shares of those rates that a step reaches. Assumed, not measured: public trainers reach 20 to 40 %
# of the products; vLLM reads weights and cache at about half of the full speed; our own loop is
# held up by the start of each kernel, and by unpacking 4-bit weights.
REACHED = {"train": (0.2, 0.4), "vllm": (0.4, 0.7), "own": (0.1, 0.3)}
USUAL = {"16gb": "T4", "24gb": "RTX 3090", "80gb": "A100", "8x80gb": "A100"}  # preset -> GPU


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
    """Of all words for a micro-batch: in parts where the vocabulary is large, else at once. Each as
    the head gives it, once more in float32, and its gradient in float32."""
    a_score, n = wide + 8, shape.vocabulary * tokens
    if shape.vocabulary < LARGE_VOCABULARY:
        return a_score * n
    gradient = wide * shape.vocabulary * shape.hidden if head_is_trained else 0
    return a_score * min(LOGITS_AT_ONCE_GPU, n) + gradient


def _width(cfg: RunConfig) -> int:
    return {"float32": 4}.get(cfg.dtype, 2)


@dataclass(frozen=True)
class Plan:
    """Bytes by part in each phase, and the memory that there is.

    longest_answer, largest_group   what would still fit, the other settings as they are; 0 if
                                    nothing does
    wants  bytes that the engine needs at least, and what it is given; (0, 0) for the own loop
    """

    rollout: Mapping[str, float]
    train: Mapping[str, float]
    memory: float
    longest_answer: int = 0
    largest_group: int = 0
    wants: tuple[float, float] = (0.0, 0.0)

    @property
    def peak(self) -> float:
        return max(sum(self.rollout.values()), sum(self.train.values())) * LOST + CONTEXT

    @property
    def verdict(self) -> str:
        """fits, tight or no."""
        if self.peak > self.memory or self.wants[0] > self.wants[1]:
            return "no"
        return "tight" if self.peak > TIGHT * self.memory else "fits"

    def table(self) -> str:
        """Markdown: GiB by part and phase, the peak and what would still fit."""
        parts = pandas.DataFrame({"rollout": self.rollout, "train": self.train}).fillna(0)
        parts.loc["sum"] = parts.sum()
        rows = (parts / GIB).map("{:.2f}".format).itertuples()
        lines = [markdown_table(["GiB", *parts], rows)]
        needs, given = (part / GIB for part in self.wants)
        if needs > given:
            lines.append(
                f"\nvLLM needs {needs:.1f} GiB for weights and one answer and is given "
                f"{given:.1f}: raise engine_memory."
            )
        lines.append(
            f"\npeak {self.peak / GIB:.1f} GiB with CUDA's own and what is lost between blocks, of "
            f"{self.memory / GIB:.0f} GiB: **{self.verdict}**"
        )
        return "\n".join(lines) + (
            f"\nlongest answer that fits: {self.longest_answer or 'none'}; largest group: "
            f"{self.largest_group or 'none'}"
        )


def sharded_weights(shape: Shape, cfg: RunConfig, gpus: int) -> dict[str, float]:
    """What each of several GPUs holds of weights that are all trained: a slice of them, of their
    moments and of their gradients in float32; two layers, and what belongs to none, whole and in
    the type of computing; one layer's gradient on its way; the gradient of what belongs to none
    (embeddings, head), in that type and in float32 to be added up; a whole copy to write with."""
    outside = shape.n_weights - shape.n_linear
    layer = shape.n_linear / shape.layers
    parts = {
        "weights": 4 * shape.n_weights / gpus,
        "optimizer": 8 * shape.n_weights / gpus,
        "put together": _width(cfg) * (2 * layer + 2 * outside) + 4 * (layer + outside),
    }
    if cfg.sampler == "own":
        parts["copy for rollouts"] = _width(cfg) * shape.n_weights
    if cfg.beta:
        parts["reference"] = 4 * shape.n_weights / gpus
    return parts


def _parts(
    shape: Shape, cfg: RunConfig, prompt: int, memory: float, gpus: int
) -> tuple[dict[str, float], dict[str, float]]:
    wide, length = _width(cfg), prompt + cfg.max_new_tokens
    count, each = trained(shape, cfg)
    moments = 2 if cfg.optimizer != "adamw" else 2 * each
    stays = {"weights": weights(shape, cfg), "optimizer": moments * count}
    gradients = each * count
    if cfg.tuning != "full":
        stays["adapter"] = each * count
    elif gpus > 1:
        stays, gradients = sharded_weights(shape, cfg, gpus), 4 * count / gpus
    elif cfg.beta:
        stays["reference"] = weights(shape, cfg)
    problems = -(-cfg.n_problems // gpus)
    rows = min(max(1, ROWS_AT_ONCE // cfg.group_size), problems) * cfg.group_size
    rollout = {
        "keys and values": keys_and_values(shape, wide, rows * length),
        "scores": (wide + 24) * shape.vocabulary * rows,  # float32 twice, float64 twice to choose
    }
    tokens = max(cfg.micro_batch_tokens, length)
    train = {
        "gradients": gradients,
        "activations": activations(shape, cfg, tokens),
        "scores": scores(shape, tokens, cfg.tuning == "full", wide),
    }
    if "put together" in stays:  # only while it is at work
        train["put together"] = stays.pop("put together")
    if cfg.sampler == "vllm":
        rollout, train["vLLM"] = {"vLLM": cfg.engine_memory * memory}, ASLEEP
    return stays | rollout, stays | train


Gibibytes = Annotated[float, Range(0.001, 1e6)]


def plan(cfg: RunConfig, memory_gib: float, prompt_tokens: int = 256, gpus: int = 1) -> Plan:
    """The memory of a run on each GPU.

    memory_gib     of one GPU
    prompt_tokens  of the longest prompt
    gpus           how many there are: all weights are then trained sharded (FSDP2)
    """
    check_value("memory", memory_gib, Gibibytes)
    check_value("prompt_tokens", prompt_tokens, Count)
    check_value("gpus", gpus, Count)
    shape, memory = shape_of(cfg.model), memory_gib * GIB

    def planned(**changes: int) -> Plan:
        now, wants = cfg.change(**changes), (0.0, 0.0)
        if cfg.sampler == "vllm":
            answer = keys_and_values(shape, _width(cfg), prompt_tokens + now.max_new_tokens)
            needs = _width(cfg) * shape.n_weights + answer + ASLEEP
            wants = (needs, cfg.engine_memory * memory)
        return Plan(*_parts(shape, now, prompt_tokens, memory, gpus), memory, wants=wants)

    def fits(**changes: int) -> bool:
        return planned(**changes).verdict != "no"

    return replace(
        planned(),
        longest_answer=_largest(
            lambda n: fits(max_new_tokens=n), min(shape.context - prompt_tokens, LONGEST)
        ),
        largest_group=_largest(
            lambda n: n == 1 or fits(group_size=n, n_minibatches=1, steps=1), 1024
        ),
    )


def least_seconds(
    cfg: RunConfig, gpu: str, prompt_tokens: int = 256, gpus: int = 1
) -> tuple[float, float]:
    """What writing answers and training on them cannot go below in a step: (rollout, train).

    Arithmetic alone, with a name of GPUS and its data sheet, all answers of full length: the
    products at the full rate, or reading weights (once a token, for all rows) and each row's keys
    and values at full speed, whichever takes longer. A real step takes a few times as long.
    """
    rate, speed = GPUS[gpu][0] * 1e12, GPUS[gpu][1] * 1e9
    shape, length = shape_of(cfg.model), cfg.max_new_tokens
    rows = -(-cfg.n_problems // gpus) * cfg.group_size
    passes, written = -(-rows // ROWS_AT_ONCE), weights(shape, cfg)
    if cfg.sampler == "vllm":
        passes, written = 1, _width(cfg) * shape.n_weights
    multiplied = 2 * (shape.n_linear + shape.vocabulary * shape.hidden)  # a token, forward
    seen = prompt_tokens + length / 2  # tokens that a new one looks at, on average
    pairs = 4 * shape.layers * shape.q  # operations a token and token seen
    read = passes * length * written + rows * length * keys_and_values(shape, _width(cfg), 1) * seen
    rollout = max(rows * length * (multiplied + pairs * seen) / rate, read / speed)
    whole = prompt_tokens + length
    again = 1 if cfg.gradient_checkpointing else 0
    backward = 1 if cfg.tuning != "full" else 2  # a frozen matrix has no gradient of its own
    a_token = (1 + again + backward) * multiplied + (3 + again) * pairs * whole / 2
    return rollout, rows * whole * a_token / rate


def expected_seconds(
    cfg: RunConfig, gpu: str, prompt_tokens: int = 256, gpus: int = 1
) -> tuple[float, float]:
    """A step of full-length answers, if it reaches the shares of REACHED: (fastest, slowest)."""
    write, learn = least_seconds(cfg, gpu, prompt_tokens, gpus)
    (slow_write, fast_write), (slow, fast) = REACHED[cfg.sampler], REACHED["train"]
    return write / fast_write + learn / fast, write / slow_write + learn / slow


def _largest(fits: Any, limit: int) -> int:
    """The largest whole number up to limit that fits (all smaller ones do); 0 if 2 does not."""
    n_fitting = bisect_right(range(2, limit + 1), False, key=lambda n: not fits(n))
    return n_fitting + 1 if n_fitting else 0
