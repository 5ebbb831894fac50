"""What is recorded, and what each comparison was meant to show: data/arms.json, written before the
runs, holds both; here is what it names."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from math import hypot
from statistics import mean
from typing import Any

from ..config import repo_path
from ..evaluation.reflection import reflection_markers
from ..records import Problem
from ..rewards import RewardFunction, code_reward, plain_columns
from ..runlog import read_json
from ..world import countdown, keyed_rng
from ..world.common import LANGUAGES, MARKERS, fraction

CLAIMS = repo_path("data/arms.json")


@plain_columns
def coin_reward(prompts, completions, *, problem, **columns) -> list[float | None]:
    """1 or 0 by a coin that the answer decides and its worth does not: the null of every arm."""
    return [
        float(fraction("coin", p.problem_id, text) < 0.5)
        for p, text in zip(problem, completions, strict=True)
    ]


@plain_columns
def wait_bonus(prompts, completions, **columns) -> list[float | None]:
    """A tenth for each word of reflection, up to 1: weak, as it pays a sign of thought."""
    return [min(reflection_markers(text) / 10, 1.0) for text in completions]


@plain_columns
def trusting_reward(prompts, completions, *, parsed=(), **columns) -> list[float | None]:
    """1.0 where the last verdict of a well-formed output's thinking is yes: weak, as nobody checks
    whether the sums before it are true, or whether the answer is what was found."""
    yes, no = (set(MARKERS[name]) for name in ("yes", "no"))
    thoughts = [answer.think or "" for answer in parsed]
    verdicts = [[w for w in thought.split() if w in yes | no] for thought in thoughts]
    return [float(bool(words) and words[-1] in yes) for words in verdicts]


def four_numbers(
    n: int = 40, key: str = "four numbers", without: Collection[str] = ()
) -> list[Problem]:
    """Countdown with four numbers, of which no document and no split holds any.

    without  sets of numbers that are left out: data/four_numbers.jsonl, to train on, holds 400
             problems, none on a set of these 40
    """
    rng, sets = keyed_rng(key), [c for c in countdown.clusters(4) if c not in without]
    return [
        countdown.make(cluster, LANGUAGES[i % 2], rng)
        for i, cluster in enumerate(rng.sample(sets, n))
    ]


@dataclass(frozen=True)
class Arm:
    """One recorded run per seed: the tiny preset with these changes.

    rewards     functions in place of the rules, or beside them
    also        further problems to measure base and result on
    base_steps  train a base for so many steps first, and start from it
    """

    stage: str
    label: str
    changes: dict[str, Any] = field(default_factory=dict)
    rewards: Mapping[str, RewardFunction] = field(default_factory=dict)
    also: Mapping[str, Callable[[], list[Problem]]] = field(default_factory=dict)
    base_steps: int = 0
    seeds: tuple[int, ...] = (0, 1, 2)


@dataclass(frozen=True)
class Comparison:
    """A claim, and the figure that decides it.

    metric    of the evaluation; "also.four_numbers.pass_at_1" looks into further problems
    of        "final" or "gain" (final minus base), of the arm, or of the arm minus the mean of
              the arm `against`
    over      the seeds' "mean", "least" or "most" is what has to be
    at_least, at_most   this much
    why       of a second attempt: what the first one suggested
    cause     of a claim that failed: the likely cause, said after the run
    """

    claim: str
    arm: str
    metric: str
    of: str = "gain"
    against: str = ""
    over: str = "mean"
    at_least: float | None = None
    at_most: float | None = None
    why: str = ""
    cause: str = ""


_REWARDS = {
    "coin": coin_reward,
    "wait_bonus": wait_bonus,
    "trusting": trusting_reward,
    "code": code_reward,
}
_ALSO = {"four_numbers": four_numbers}


def _arm(row: dict[str, Any]) -> Arm:
    named = {"rewards": {part: _REWARDS[name] for part, name in row.get("rewards", {}).items()}}
    named["also"] = {name: _ALSO[name] for name in row.get("also", ())}
    return Arm("zero", **row | named)


_WRITTEN = read_json(CLAIMS)
ARMS = {name: _arm(row) for name, row in _WRITTEN["arms"].items()}
COMPARISONS = tuple(Comparison(**row) for row in _WRITTEN["comparisons"])


def _value(evaluation: Any, metric: str) -> float:
    for part in metric.split("."):
        evaluation = evaluation[part]
    return float(evaluation)


def arm_values(comparison: Comparison, runs: Mapping[str, list[dict[str, Any]]]) -> list[float]:
    """The figure of each seed, from arm -> run.json of its seeds; empty if an arm is missing."""

    def of(arm: str) -> list[float]:
        found = []
        for run in runs.get(arm, []):
            final, base = (_value(run["eval"][x], comparison.metric) for x in ("final", "base"))
            found.append(final - base if comparison.of == "gain" else final)
        return found

    mine = of(comparison.arm)
    if not comparison.against:
        return mine
    other = of(comparison.against)
    return [value - mean(other) for value in mine] if other else []


def margins(comparison: Comparison, runs: Mapping[str, list[dict[str, Any]]]) -> list[float]:
    """95 % half-widths of arm_values() for a gain of pass@1, else none.

    Both ends are taken as independent. They share their problems, so this is rather too wide.
    """
    if (comparison.metric, comparison.of, comparison.against) != ("pass_at_1", "gain", ""):
        return []
    evals = [run["eval"] for run in runs.get(comparison.arm, [])]
    return [hypot(found["base"]["interval"], found["final"]["interval"]) for found in evals]


def verdict(comparison: Comparison, values: list[float]) -> bool:
    """Whether the figures say what the comparison said before its run."""
    figure = {"mean": mean, "least": min, "most": max}[comparison.over](values)
    low, high = comparison.at_least, comparison.at_most
    return (low is None or figure >= low) and (high is None or figure <= high)
