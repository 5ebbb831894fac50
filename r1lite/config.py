"""Every setting of a training, flat and typed; a preset is a class of these with other numbers."""

from __future__ import annotations

import dataclasses
import difflib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from .records import UserError

REPO = Path(__file__).resolve().parents[1]  # the checkout: data/ and notebooks/ stand in it


def repo_path(name: str) -> Path:
    """A place in the checkout by its name, from wherever the program was started."""
    return REPO / name


T = TypeVar("T", bound="TrainingConfig")

# Fields that may differ when a run is resumed: they change how far, how fast and how loudly it goes
# on, not what any step computes (but for rounding).
RESUMABLE = (
    "steps", "checkpoint_every", "samples_every", "run_dir", "device", "engine_memory",
    "engine_url", "fast",
)  # fmt: skip
LONGEST = 65536  # tokens of an answer
MANY = 1_000_000_000


@dataclass(frozen=True)
class Range:
    """What a number may be, both ends included."""

    low: float
    high: float


Count = Annotated[int, Range(1, MANY)]
CountOrNone = Annotated[int, Range(0, MANY)]
Positive = Annotated[float, Range(0, 1e9)]
Objective = Literal["deepseekmath", "r1-printed", "gspo", "cispo"]
# GRPO's own, BNPO's and DAPO's, Dr. GRPO's
Aggregation = Literal["sequence_mean", "token_mean", "max_length"]


@dataclass(frozen=True)
class TrainingConfig:
    """What any training needs; the defaults are those of the tiny preset."""

    model: str = "data/tiny-base"  # a model folder, or a name on the Hugging Face hub
    device: str = "auto"  # "auto" takes a GPU if there is one
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"  # of the weights
    tuning: Literal["full", "lora", "qlora"] = "full"  # all weights, an adapter, one beside 4 bits
    lora_rank: Annotated[int, Range(1, 4096)] = 16  # of an adapter's two matrices
    lora_alpha: Annotated[float, Range(0, 1e6)] = 32.0  # an adapter counts alpha / rank times
    seed: int = 0  # of data, sampling and adapters; the same seed gives the same run on a CPU
    steps: Count = 100  # updates in the whole run
    learning_rate: Annotated[float, Range(0, 1)] = 2e-4  # of AdamW, after warm-up
    warmup_steps: CountOrNone = 5  # updates over which the learning rate rises from 0
    max_grad_norm: Annotated[float, Range(1e-6, 1e9)] = 1.0  # longer gradients are scaled down
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw_8bit"] = "adamw"  # moments in 8 bits
    gradient_checkpointing: bool = False  # keep no activations, compute them again: memory for time
    micro_batch_tokens: Count = 4096  # padded tokens per forward pass; memory, not results
    fast: bool = True  # shortcuts for Qwen2 and Llama on a CPU: same results to rounding
    run_dir: str = ""  # log and checkpoints; empty: runs/ and a name made of what is computed
    checkpoint_every: Count = 20  # updates between checkpoints, rounded up to whole rollouts

    # no fields: what one kind of training has as a setting, as the other kind goes by it
    temperature = 1.0
    schedule = "constant"

    def __post_init__(self) -> None:
        for name, kind in _kinds(type(self)).items():
            check_value(name, getattr(self, name), kind)
        if self.dtype == "float16" and self.tuning == "full":
            raise UserError(
                'dtype="float16" with tuning="full": weights of that format do not feel small '
                'steps. Set dtype="float32", or train an adapter: tuning="lora".'
            )

    def change(self: T, **changes: Any) -> T:
        """A copy with other values; raises UserError naming the nearest field if one is unknown."""
        known = [f.name for f in dataclasses.fields(self)]
        for name in changes:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"Did you mean {near[0]!r}?" if near else f"Fields: {', '.join(known)}."
                raise UserError(f"{name!r} is no field of {type(self).__name__}. {hint}")
        return dataclasses.replace(self, **changes)

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def non_default(self) -> dict[str, Any]:
        """The fields that make this run another one than the default: see RESUMABLE."""
        return {
            f.name: getattr(self, f.name)
            for f in dataclasses.fields(self)
            if f.name not in RESUMABLE and getattr(self, f.name) != f.default
        }


@dataclass(frozen=True)
class RunConfig(TrainingConfig):
    """Settings of one RL run."""

    # what is trained on
    family: str = "countdown"  # countdown, programs, science, logic, chat, or one of your own
    problems: str = ""  # gsm8k, math, countdown, a file or folder, in place of generated ones
    template: str = "tiny"  # or "r1-zero" (the paper's), "r1", "tiny-r1", "chat": the model's own
    system: str = ""  # the system prompt of template="chat"; empty: none, or the template's own
    thinking: bool = True  # what a chat template with a switch for thinking is told

    # rollouts
    n_problems: Annotated[int, Range(1, 65536)] = 32  # problems (the paper: questions) per rollout
    group_size: Annotated[int, Range(1, 1024)] = 8  # answers per problem: the group
    max_new_tokens: Annotated[int, Range(1, LONGEST)] = 384  # longest answer; others are cut off
    extend_length_after: CountOrNone = 0  # update that doubles the limit (paper: 8200); 0: never
    temperature: Annotated[float, Range(0.01, 10)] = 1.0  # of sampling during training
    sampler: Literal["own", "vllm"] = "own"  # who samples: our own loop, or vLLM
    engine_url: str = ""  # of a vLLM server on other GPUs; empty for vLLM in the same process
    engine_memory: Annotated[float, Range(0.01, 1)] = 0.4  # vLLM's share of a GPU, weights included

    # rewards
    accuracy_weight: Annotated[float, Range(0, 100)] = 1.0  # for a right answer in the right format
    # 0.2 is tiny's departure from the paper's equal weights, chosen by trial: where an answer of a
    # group is right, that should decide. How equal weights do there has not been recorded.
    format_weight: Annotated[float, Range(0, 100)] = 0.2  # for the format alone; 1 in the paper
    overlong_buffer: Annotated[int, Range(0, LONGEST)] = 0  # last tokens that cost up to 1 (DAPO)
    dynamic_sampling: bool = False  # sample on until every group has unequal rewards (DAPO)

    # objective
    objective: Objective = "deepseekmath"  # the ratio is of a token; "r1-printed", "gspo": of all
    loss_aggregation: Aggregation = "sequence_mean"  # divide by own tokens, their mean, the limit
    advantage_scale: Literal["std", "batch", "none"] = "std"  # divide by the group's spread
    sample_std: bool = False  # spread with G - 1 under the root
    clip_epsilon: Positive = 10.0  # the paper's value; 0.2 is PPO's custom
    clip_epsilon_high: Positive = 0.0  # another one for ratios above 1 (clip-higher); 0: the same
    importance_cap: Positive = 0.0  # cap on the weight p_trainer / p_sampler; 0: no correction
    dual_clip: Positive = 0.0  # bound on the ratio also for negative advantages; 0: none
    mask_truncated: bool = False  # do not train on answers that were cut off
    beta: Annotated[float, Range(0, 100)] = 0.0  # weight of the KL penalty; 0 needs no reference
    kl_estimator: Literal["k1", "k2", "k3"] = "k3"  # the paper's is k3
    kl_placement: Literal["loss", "reward"] = "loss"  # where the KL penalty is put
    kl_importance_weighted: bool = False  # estimate times ratio: its gradient is then the KL's own
    reference_every: Count = 400  # updates after which the reference becomes the policy

    # updates per rollout
    n_minibatches: Annotated[int, Range(1, 65536)] = 1  # from 2 on the later ones are stale
    inner_epochs: Annotated[int, Range(1, 1000)] = 1  # passes over each rollout

    samples_every: Count = 20  # updates between rows of rollouts.jsonl

    def __post_init__(self) -> None:
        super().__post_init__()
        n_answers = self.group_size * self.n_problems
        if self.overlong_buffer > self.max_new_tokens:
            raise UserError(
                f"overlong_buffer={self.overlong_buffer} is longer than max_new_tokens="
                f"{self.max_new_tokens}: it is the last part of an answer. Set a smaller one."
            )
        if n_answers % self.n_minibatches:
            raise UserError(
                f"n_minibatches={self.n_minibatches} does not divide the {n_answers} answers of a "
                "rollout: mini-batches must be of one size. Choose a divisor."
            )
        if self.steps % self.updates_per_rollout:
            raise UserError(
                f"steps={self.steps} is not a multiple of the {self.updates_per_rollout} updates "
                "per rollout (n_minibatches * inner_epochs). Choose a multiple."
            )

    @property
    def updates_per_rollout(self) -> int:
        return self.n_minibatches * self.inner_epochs

    @property
    def reward_weights(self) -> dict[str, float]:
        return {"accuracy": self.accuracy_weight, "format": self.format_weight}

    def at(self, step: int) -> RunConfig:
        """The settings of an update (counted from 1): these, or with the longer limit."""
        if not self.extend_length_after or step <= self.extend_length_after:
            return self
        return self.change(max_new_tokens=2 * self.max_new_tokens, extend_length_after=0)


@dataclass(frozen=True)
class SftConfig(TrainingConfig):
    """Settings of one supervised training."""

    data: str = ""  # a .jsonl file: rows of prompt and completion, or of text
    batch_size: Annotated[int, Range(1, 65536)] = 32  # rows per update
    train_on: Literal["answers", "all"] = "answers"  # of a row: its completion, or all tokens
    schedule: Literal["constant", "linear", "cosine"] = "constant"  # of the learning rate
    min_learning_rate: Annotated[float, Range(0, 1)] = 0.0  # where it ends, as a share of the peak


@cache
def _kinds(config: type[TrainingConfig]) -> dict[str, Any]:
    """Field -> its type, with its range or its choices."""
    return get_type_hints(config, include_extras=True)


def check_value(name: str, value: Any, kind: Any) -> None:
    """Raises UserError unless value is of the type, among the choices, in the range."""
    if kind is bool or get_origin(kind) is Literal:
        choices = get_args(kind) or (True, False)
        fits = value in choices and isinstance(value, type(choices[0]))
        rule, which = f"one of {', '.join(map(str, choices))}", "of those"
    elif get_origin(kind) is Annotated:
        number, limits = get_args(kind)
        is_number = isinstance(value, (int, number)) and not isinstance(value, bool)
        fits = is_number and limits.low <= value <= limits.high
        what = "a whole number" if number is int else "a number"
        rule, which = f"{what} from {limits.low} to {limits.high}", "in that range"
    else:  # a text, or a number without a range
        return
    if not fits:
        raise UserError(f"{name}={value!r}: it must be {rule}. Set {name}= to one {which}.")


def settings_without_effect(cfg: TrainingConfig) -> list[str]:
    """A sentence for each setting that was changed and changes nothing."""
    idle: dict[str, str] = {}
    if cfg.tuning == "full":
        idle |= dict.fromkeys(("lora_rank", "lora_alpha"), 'tuning="full" has no adapter')
    if isinstance(cfg, RunConfig):
        idle |= _idle_in_rl(cfg)
    return [
        f"{name}={getattr(cfg, name)!r} changes nothing: {why}."
        for name, why in idle.items()
        if getattr(cfg, name) != getattr(type(cfg), name)  # the default
    ]


def _idle_in_rl(cfg: RunConfig) -> dict[str, str]:
    idle: dict[str, str] = {}
    if cfg.updates_per_rollout == 1:
        why = "with one update per rollout the ratio is 1, and no clip acts"
        idle |= dict.fromkeys(("clip_epsilon", "clip_epsilon_high", "dual_clip"), why)
    if cfg.beta == 0:
        names = ("kl_estimator", "kl_placement", "kl_importance_weighted", "reference_every")
        idle |= dict.fromkeys(names, "beta=0 has no KL penalty")
    if cfg.template != "chat":
        why = "only the chat template of a model reads it"
        idle |= dict.fromkeys(("system", "thinking"), why)
    if cfg.sampler == "own":
        idle |= {"engine_url": 'sampler="own" has no engine'}
    if cfg.advantage_scale == "none":
        idle |= {"sample_std": 'advantage_scale="none" divides by no spread'}
    return idle


PRESETS: dict[str, dict[str, Any]] = {
    name: {field: value for field, value in row.items() if field != "about"}
    for name, row in json.loads(
        Path(__file__).with_name("presets.json").read_text(encoding="utf-8")
    ).items()
}


def preset(name: str, **changes: Any) -> RunConfig:
    """The settings of a preset, some of them changed: preset("tiny", steps=20).

    Raises UserError for an unknown preset or field.
    """
    if name not in PRESETS:
        raise UserError(
            f"preset {name!r} is unknown: it must be one of {', '.join(PRESETS)}. "
            "Choose one of those and change single fields."
        )
    return RunConfig().change(**PRESETS[name] | changes)
