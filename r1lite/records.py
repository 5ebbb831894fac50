"""The records that travel along the loop, and the one legend of shape letters.

problems -> prompts -> groups of answers -> rewards -> advantages -> batch -> loss -> step -> log

Shape letters, used in every docstring and comment of this library:

    P  problems in one step             G  answers per problem (the group)
    B  rows, B = P * G                  T  tokens of an answer, the stop token included
    L  tokens of prompt and answer      V  entries of the vocabulary
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


class UserError(ValueError):
    """A mistake that the reader can fix: names the value, the rule and the next step."""


@contextlib.contextmanager
def needs(who: str, package: str, instead: str, install: str = "") -> Iterator[None]:
    """For imports of what not everyone has: says who needs which package, and what else to do."""
    try:
        yield
    except (ImportError, RuntimeError) as error:  # the latter where a package lacks its library
        raise UserError(
            f"{who} needs {package} ({error}): run `{install or f'pip install {package}'}`, "
            f"or {instead}."
        ) from error


def is_text(value: Any) -> bool:
    """Whether a value is a text that says something. One with half a character (a surrogate, where
    text was cut within it) is none: it cannot be tokenised or written."""
    text = value.strip() if isinstance(value, str) else ""
    return text != "" and text == text.encode(errors="ignore").decode()


@dataclass(frozen=True)
class Problem:
    """One question with what is needed to check an answer to it.

    problem_id  unique name; sampling is keyed by it
    family      which checker applies: "countdown", "programs", "science", "logic", "chat",
                "maths" for problems that are read, never generated, or an added one
    cluster     what the train/held-out split and the confidence intervals go by;
                in countdown the set of numbers
    language    "en" or "zh"; the language the question is asked in
    question    the text that goes into the template
    gold        what the checker of the family reads; JSON values only
    """

    problem_id: str
    family: str
    cluster: str
    language: str
    question: str
    gold: Mapping[str, Any]

    REQUIRED = ("problem_id", "family", "cluster", "language", "question", "gold")

    @classmethod
    def from_dict(cls, row: Mapping[str, Any], where: str = "a problem") -> Problem:
        """Build a problem from a JSON row, or from that of a data set.

        A data set gives every row every key of gold, None where a row has none: these are left out.
        Raises UserError naming any key that is missing, and what is not a text but should be one.
        """
        texts = {key: is_text(row.get(key)) for key in cls.REQUIRED} | {"gold": "gold" in row}
        missing = [f"{k} (has {row[k]!r:.60})" if k in row else k for k in texts if not texts[k]]
        if missing:
            raise UserError(
                f"{where} lacks {', '.join(missing)}: every problem needs the keys "
                f"{', '.join(cls.REQUIRED)}, all but gold texts. Add them, or leave the row out."
            )
        gold = row["gold"]
        if isinstance(gold, Mapping):
            gold = {key: value for key, value in gold.items() if value is not None}
        return cls(**{key: row[key] for key in cls.REQUIRED} | {"gold": gold})


# The value of a reward that could not be checked: its answer has no total, and is counted, since a
# checker is slow or broken. None says that a reward does not apply: the others make the total.
UNCHECKED = math.nan


def is_unchecked(value: float | None) -> bool:
    """Whether a reward's value says "could not be checked" (one from another process, too)."""
    return value is not None and math.isnan(value)


def known(values: Iterable[float | None]) -> list[float]:
    """The values that are numbers: neither None nor UNCHECKED."""
    return [value for value in values if value is not None and not math.isnan(value)]


@dataclass(frozen=True)
class Answer:
    """A completion taken apart by its format: think and final are None where the format is not
    kept; nothing is guessed then."""

    think: str | None
    final: str | None

    @property
    def is_well_formed(self) -> bool:
        return self.final is not None


@dataclass(frozen=True)
class Completion:
    """One sampled answer.

    token_ids   T sampled tokens, the stop token last if the policy wrote one
    logps       T log-probabilities (nats) of those tokens when they were sampled, at the
                sampling temperature: the old policy of the clipped objective
    text        the decoded answer without the stop token
    truncated   True if the length limit cut the answer off
    answer      the text taken apart, None until prompt.parse has done it; a copy with another text
                needs answer=None
    """

    token_ids: tuple[int, ...]
    logps: tuple[float, ...]
    text: str
    truncated: bool
    answer: Answer | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Group:
    """The G answers to one problem, and what each was worth.

    prompt_ids  tokens of the rendered prompt
    rewards     G totals; empty until the answers have been scored. UNCHECKED (NaN) where a reward
                could not be checked, or none applies: such an answer is left out of the group's
                mean and spread, and its advantage is 0
    parts       reward name -> G unweighted values; None where a reward does not apply, UNCHECKED
                where it could not be checked
    """

    problem: Problem
    prompt_ids: tuple[int, ...]
    completions: tuple[Completion, ...]
    rewards: tuple[float, ...] = ()
    parts: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)


# Every number that a line of metrics.jsonl may hold, and what it means. A training of another kind
# logs what applies to it; the reward of a name is "reward/name".
METRICS: dict[str, str] = {
    "step": "policy updates so far, counted from 1 as in the paper's Figure 1",
    "loss": "value of the minimised objective; of GRPO about 0 when ratios are 1 and beta is 0",
    "grad_norm": "global L2 norm of the gradient before it is clipped",
    "reward": "mean total reward of the answers that have one; 0 if none has",
    "accuracy": "mean accuracy reward, without its weight",
    "format": "mean format reward, without its weight",
    "length": "mean tokens per completion",
    "truncated": "share of completions cut off at the limit",
    "kl": "mean KL estimate to the reference per token (nats); 0 when beta is 0",
    "clip_fraction": "share of completion tokens whose gradient the clip removed",
    "informative_groups": "share of groups whose known rewards differ; the others have no gradient",
    "sampler_gap": "largest |log-probability difference| (nats) between trainer and sampler in the "
    "first update after a rollout; later updates repeat it",
    "sampler_gap_mean": "the same, mean over the tokens that are trained on",
    "entropy": "estimate of the policy's entropy per token (nats): mean of -log p",
    "unchecked": "share of completions of which some reward could not be told: they have no total",
    "tokens_trained": "tokens of prompts and completions that the update read",
    "tokens_computed": "tokens that its forward passes computed for that: padding adds to them",
    "seconds": "where the time of the update went, by part, with their sum as step",
    "warnings": "what looked wrong, in words",
}


class StepLog(dict):
    """What one update did: the line of metrics.jsonl as a dict; log.loss is log["loss"].

    METRICS says what each name means.
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(
                f"this step logged no {name!r}; it has {', '.join(self)}"
            ) from None
