"""Every setting of a run, flat and typed; a preset is this class with other numbers."""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .records import UserError

# Fields that may differ when a run is resumed: they change how far and how loudly it goes on,
# not what any step computes.
RESUMABLE = (
    "steps", "checkpoint_every", "log_to", "samples_every", "run_dir", "device", "engine_memory",
    "engine_url", "fast",
)  # fmt: skip


@dataclass(frozen=True)
class RunConfig:
    """Settings of one RL run. The defaults are those of the tiny preset."""

    # what is trained, on what
    model: str = "data/tiny-base"  # a model folder, or a name on the Hugging Face hub
    family: str = "countdown"  # countdown, programs, science, logic or chat
    problems: str = ""  # gsm8k, math, countdown, a file or folder, in place of generated ones
    template: str = "tiny"  # "tiny", or "r1-zero": the paper's, word for word
    device: str = "auto"  # "auto" takes a GPU if there is one
    dtype: str = "float32"  # of the weights; what is trained is kept in float32
    tuning: str = "full"  # train all weights, or an adapter: "lora", "qlora" (base in 4 bits)
    lora_rank: int = 16  # of an adapter's two matrices
    lora_alpha: float = 32.0  # an adapter counts alpha / rank times
    seed: int = 0  # of problems and sampling; the same seed gives the same run on a CPU

    # rollouts
    n_problems: int = 32  # problems (the paper: questions) per rollout
    group_size: int = 8  # answers per problem: the group
    max_new_tokens: int = 384  # longest answer; longer ones are cut off
    extend_length_after: int = (
        0  # update after which the limit is doubled (the paper: 8200); 0 for never
    )
    temperature: float = 1.0  # of sampling during training
    sampler: str = "own"  # who writes the answers: our "own" loop, or "vllm"
    engine_url: str = ""  # of a vLLM server on other GPUs; empty for vLLM in the same process
    engine_memory: float = 0.4  # share of a GPU's memory for vLLM, its weights included

    # rewards
    accuracy_weight: float = 1.0  # reward for a right answer in the right format
    # 0.2 is tiny's departure from the paper's equal weights, chosen by trial: where an answer of a
    # group is right, that should decide. How equal weights do there has not been recorded.
    format_weight: float = 0.2  # reward for the format alone; 1 in the paper, and in all but tiny
    overlong_buffer: int = 0  # last tokens before the limit that cost up to 1 of reward (DAPO)
    dynamic_sampling: bool = False  # sample on until every group has unequal rewards (DAPO)

    # objective
    objective: str = "deepseekmath"  # ratio of a token; "r1-printed", "gspo": of an answer; "cispo"
    loss_aggregation: str = (
        "sequence_mean"  # "token_mean" of the batch (DAPO), "max_length" (Dr. GRPO)
    )
    advantage_scale: str = "std"  # divide by the group's spread, that of the "batch", or "none"
    sample_std: bool = False  # spread with G - 1 under the root
    clip_epsilon: float = 10.0  # the paper's value; 0.2 is PPO's custom
    clip_epsilon_high: float = 0.0  # another one for ratios above 1 (clip-higher); 0 for the same
    importance_cap: float = 0.0  # weigh tokens by trainer / sampler, at most so; 0: take it for 1
    dual_clip: float = 0.0  # largest ratio that counts, for negative advantages too; 0 for none
    mask_truncated: bool = False  # do not train on answers that were cut off
    beta: float = 0.0  # weight of the KL penalty to the reference; 0 needs no reference
    kl_estimator: str = "k3"  # k1, k2 or k3
    kl_placement: str = "loss"  # the KL penalty is a term of the loss, or part of the "reward"
    kl_importance_weighted: bool = (
        False  # multiply the estimate by the ratio: the gradient is then the KL's own
    )
    reference_every: int = 400  # updates after which the reference becomes the policy

    # optimisation
    steps: int = 100  # policy updates in the whole run
    learning_rate: float = 2e-4  # of AdamW, constant after warm-up
    warmup_steps: int = 5  # updates over which the learning rate rises from 0
    max_grad_norm: float = 1.0  # gradients longer than this are scaled down to it
    n_minibatches: int = 1  # updates per pass over a rollout; from 2 on the later ones are stale
    inner_epochs: int = 1  # passes over each rollout
    optimizer: str = "adamw"  # "adamw_8bit", "paged_adamw_8bit": moments in 8 bits
    gradient_checkpointing: bool = False  # keep no activations, compute them again: memory for time
    micro_batch_tokens: int = 4096  # padded tokens per forward pass; memory, not results

    # keeping and showing
    fast: bool = True  # shortcuts
    run_dir: str = "runs/zero"  # log, samples and checkpoints go here
    checkpoint_every: int = 20  # updates between checkpoints, rounded up to whole rollouts
    samples_every: int = 20  # updates between rows of rollouts.jsonl
    log_to: tuple[str, ...] = ()  # also "tensorboard" and "wandb"

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            whole = isinstance(getattr(RunConfig, name), int)
            right = isinstance(value, int if whole else (int, float)) and value is not True
            if not right or not low <= value <= high:
                raise UserError(
                    f"{name}={value!r}: it must be a {'whole ' if whole else ''}number from {low} "
                    f"to {high}. Set {name}= to one in that range."
                )
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise UserError(
                    f"{name}={getattr(self, name)!r}: it must be one of "
                    f"{', '.join(map(str, allowed))}. Set {name}= to one of those."
                )
        if self.overlong_buffer > self.max_new_tokens:
            raise UserError(
                f"overlong_buffer={self.overlong_buffer} is longer than max_new_tokens="
                f"{self.max_new_tokens}: it is the last part of an answer. Set a smaller one."
            )
        if self.dtype == "float16" and self.tuning == "full":
            raise UserError(
                'dtype="float16" with tuning="full": weights of that format do not feel small '
                'steps. Set dtype="float32", or train an adapter: tuning="lora".'
            )
        if self.group_size * self.n_problems % self.n_minibatches:
            raise UserError(
                f"n_minibatches={self.n_minibatches} does not divide the "
                f"{self.group_size * self.n_problems} answers of a rollout: mini-batches must be "
                "of one size. Choose a divisor."
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

    def change(self, **changes: Any) -> RunConfig:
        """A copy with other values; raises UserError naming the nearest field if one is unknown."""
        known = [f.name for f in dataclasses.fields(self)]
        for name in changes:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"Did you mean {near[0]!r}?" if near else f"Fields: {', '.join(known)}."
                raise UserError(f"{name!r} is no field of RunConfig. {hint}")
        return dataclasses.replace(self, **changes)

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"log_to": list(self.log_to)}


# What each number may be, from and to; what each name may be; and the presets: what a preset is for
# ("about"), and the fields in which it is not as above.
_SETTINGS = json.loads(Path(__file__).with_name("settings.json").read_text(encoding="utf-8"))
_RANGES: dict[str, list[float]] = _SETTINGS["ranges"]
LONGEST = int(_RANGES["max_new_tokens"][1])  # tokens of an answer
_CHOICES: dict[str, list[str | bool]] = _SETTINGS["choices"] | {
    f.name: [True, False] for f in dataclasses.fields(RunConfig) if f.type == "bool"
}
PRESETS: dict[str, dict[str, Any]] = {
    name: {field: value for field, value in row.items() if field != "about"}
    for name, row in _SETTINGS["presets"].items()
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


def field_help() -> dict[str, str]:
    """Field name -> the sentence beside it above; --help prints these, so they cannot drift."""
    source = Path(__file__).read_text(encoding="utf-8")
    return dict(re.findall(r"^    (\w+): [\w\[\], .]+ = .*?  # (.+)$", source, re.MULTILINE))


TrainingConfig = RunConfig


def _nd(self):
    d = type(self)()
    return {
        f.name: getattr(self, f.name)
        for f in dataclasses.fields(self)
        if f.name not in RESUMABLE and getattr(self, f.name) != getattr(d, f.name)
    }


RunConfig.non_default = _nd


def settings_without_effect(cfg):
    return (
        [f"clip_epsilon={cfg.clip_epsilon} changes nothing"]
        if getattr(cfg, "clip_epsilon", 10) != 10 and cfg.updates_per_rollout == 1
        else []
    )


@dataclass(frozen=True)
class SftConfig:
    model: str = "data/tiny-base"
    device: str = "auto"
    dtype: str = "float32"
    tuning: str = "full"
    lora_rank: int = 16
    lora_alpha: float = 32.0
    seed: int = 0
    steps: int = 100
    learning_rate: float = 2e-4
    warmup_steps: int = 5
    max_grad_norm: float = 1.0
    optimizer: str = "adamw"
    gradient_checkpointing: bool = False
    micro_batch_tokens: int = 4096
    fast: bool = True
    run_dir: str = ""
    checkpoint_every: int = 20
    data: str = ""
    batch_size: int = 32
    train_on: str = "answers"
    schedule: str = "constant"
    min_learning_rate: float = 0.0
    non_default = _nd

    def change(self, **c):
        return dataclasses.replace(self, **c)

    def as_dict(self):
        return dataclasses.asdict(self)
