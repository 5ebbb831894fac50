"""What is recorded, and what each comparison was meant to show: written down before its run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

from ..evaluate.thinking import reflection_markers
from ..prompt import split_answer
from ..records import Problem
from ..rewards import Reward
from ..world import countdown, keyed_rng
from ..world.common import LANGUAGES, MARKERS, fraction


def coin_reward(prompts, completions, *, problem, **columns) -> list[float | None]:
    """1 or 0 by a coin that the answer decides and its worth does not: the null of every arm."""
    return [
        float(fraction("coin", p.problem_id, text) < 0.5)
        for p, text in zip(problem, completions, strict=True)
    ]


def wait_bonus(prompts, completions, **columns) -> list[float | None]:
    """A tenth for each word of reflection, up to 1: weak, as it pays a sign of thought."""
    return [min(reflection_markers(text) / 10, 1.0) for text in completions]


def trusting_reward(prompts, completions, **columns) -> list[float | None]:
    """1.0 where the last verdict of a well-formed output's thinking is yes: weak, as nobody checks
    whether the sums before it are true, or whether the answer is what was found."""
    yes, no = (set(MARKERS[name]) for name in ("yes", "no"))
    thoughts = [split_answer(text).think or "" for text in completions]
    verdicts = [[w for w in thought.split() if w in yes | no] for thought in thoughts]
    return [float(bool(said) and said[-1] in yes) for said in verdicts]


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
    arm: str
    changes: dict[str, Any] = field(default_factory=dict)
    rewards: Mapping[str, Reward] | None = None
    also: Mapping[str, Callable[[], list[Problem]]] = field(default_factory=dict)
    base_steps: int = 0
    seeds: tuple[int, ...] = (0, 1, 2)


_COUNTDOWN = {"family": "countdown", "steps": 100}
_NO_REFLECTION = _COUNTDOWN | {"model": "data/tiny-base-no-reflection"}
# 16 updates from one rollout, as the paper has them: all but the first are stale
_STALE = {"n_minibatches": 16, "steps": 320, "learning_rate": 5e-5, "checkpoint_every": 64}
_BOLD = _STALE | {"learning_rate": 4e-4}
_SHORT = {"max_new_tokens": 128}
_ON_FOUR = _COUNTDOWN | {"problems": "data/four_numbers.jsonl"}
_TOKEN_MEAN = {"length_norm": "mean"}  # BNPO's and DAPO's
ARMS = {
    "zero_countdown": Arm("zero", "full", _COUNTDOWN, also={"four_numbers": four_numbers}),
    "zero_token_mean": Arm("zero", "every token counts alike", _COUNTDOWN | _TOKEN_MEAN),
    "zero_random": Arm(
        "zero",
        "random reward",
        _COUNTDOWN | {"format_weight": 0.0},
        rewards={"accuracy": coin_reward, "format": coin_reward},
    ),
    "zero_format": Arm("zero", "format only", _COUNTDOWN | {"accuracy_weight": 0.0}),
    "zero_pays_words": Arm("zero", "a bonus on wait", _COUNTDOWN, rewards={"bonus": wait_bonus}),
    "zero_trusts_itself": Arm(
        "zero", "its own yes is believed", _COUNTDOWN, rewards={"accuracy": trusting_reward}
    ),
    "zero_no_reflection": Arm("zero", "no-reflection base", _NO_REFLECTION),
    "zero_weak": Arm("zero", "weak base", _COUNTDOWN, base_steps=800),
    "zero_clip_10": Arm("zero", "epsilon 10", _COUNTDOWN | _STALE),
    "zero_clip_02": Arm("zero", "epsilon 0.2", _COUNTDOWN | _STALE | {"clip_epsilon": 0.2}),
    "zero_bold_10": Arm("zero", "bold steps, epsilon 10", _COUNTDOWN | _BOLD),
    "zero_bold_02": Arm(
        "zero", "bold steps, epsilon 0.2", _COUNTDOWN | _BOLD | {"clip_epsilon": 0.2}
    ),
    "zero_on_four": Arm(
        "zero", "trained on four numbers", _ON_FOUR, also={"four_numbers": four_numbers}
    ),
    "zero_short": Arm("zero", "limit 128", _COUNTDOWN | _SHORT),
    "zero_longer": Arm("zero", "limit 128, then 256", _COUNTDOWN | _SHORT | {"longer_after": 60}),
} | {
    f"zero_{family}": Arm("zero", family, {"family": family, "steps": 60})
    for family in ("programs", "science", "logic", "chat")
}


@dataclass(frozen=True)
class Comparison:
    """A claim, and the figure that decides it.

    metric    of the evaluation; "also.four_numbers.pass_at_1" looks into further problems
    of        "final" or "gain" (final minus base), of the arm, or of the arm minus the mean of
              the arm `against`
    over      the seeds' "mean", "least" or "most" is what has to be
    at_least, at_most   this much
    """

    claim: str
    arm: str
    metric: str
    of: str = "gain"
    against: str = ""
    over: str = "mean"
    at_least: float | None = None
    at_most: float | None = None


COMPARISONS = (
    Comparison("R1-Zero reaches 0.75", "zero_countdown", "pass_at_1", "final", at_least=0.75),
    Comparison("it keeps the format", "zero_countdown", "format", "final", at_least=0.97),
    Comparison("answers get longer", "zero_countdown", "mean_tokens", over="least", at_least=1),
    Comparison(
        "wrong answers get longer, also without 1/|o|",
        "zero_token_mean",
        "mean_tokens_wrong",
        over="least",
        at_least=1,
    ),
    Comparison("it gains more than tags", "zero_countdown", "pass_at_1_lenient", at_least=0.30),
    Comparison("a coin teaches nothing", "zero_random", "pass_at_1", at_most=0.05),
    Comparison("nor does the format alone", "zero_format", "pass_at_1_lenient", at_most=0.05),
    Comparison("what is paid is said", "zero_pays_words", "reflection_per_answer", at_least=2),
    Comparison(
        "and helps no answer",
        "zero_pays_words",
        "pass_at_1",
        "final",
        against="zero_countdown",
        at_most=0.0,
    ),
    Comparison(
        "who believes its yes is lied to",
        "zero_trusts_itself",
        "pass_at_1",
        "final",
        against="zero_countdown",
        at_most=-0.10,
    ),
    Comparison(
        "four numbers improve too", "zero_countdown", "also.four_numbers.pass_at_1", at_least=0.05
    ),
    Comparison(
        "RL makes no word of reflection that was never read",
        "zero_no_reflection",
        "reflection_per_answer",
        "final",
        over="most",
        at_most=0.0,
    ),
    Comparison(
        "without the words it tries again all the same",
        "zero_no_reflection",
        "second_attempts",
        over="least",
        at_least=0.5,
    ),
    Comparison(
        "without the words it is hardly worse",
        "zero_no_reflection",
        "pass_at_1",
        "final",
        against="zero_countdown",
        at_least=-0.05,
    ),
    Comparison("a weak base gains little", "zero_weak", "pass_at_1", at_most=0.20),
    Comparison(
        "with stale mini-batches epsilon 10 beats 0.2",
        "zero_clip_10",
        "pass_at_1",
        "final",
        against="zero_clip_02",
        at_least=0.03,
    ),
    # The second attempts of two claims that did not hold. At the first, 0.2 cut hardly a token in
    # 5,000 (metrics.jsonl: clip_fraction), so the two runs were nearly one: here steps are larger.
    Comparison(
        "second attempt: with larger steps epsilon 10 beats 0.2",
        "zero_bold_10",
        "pass_at_1",
        "final",
        against="zero_bold_02",
        at_least=0.03,
    ),
    # And of four numbers: perhaps the skill is there and only has to be asked for.
    Comparison(
        "second attempt: four numbers improve when they are trained on",
        "zero_on_four",
        "also.four_numbers.pass_at_1",
        at_least=0.05,
    ),
    Comparison(
        "a longer limit gives a jump",
        "zero_longer",
        "pass_at_1",
        "final",
        against="zero_short",
        at_least=0.05,
    ),
    *(
        Comparison(f"R1-Zero works on {family}", f"zero_{family}", "pass_at_1", at_least=0.10)
        for family in ("programs", "science", "logic", "chat")
    ),
)


def _value(evaluation: Any, metric: str) -> float:
    for part in metric.split("."):
        evaluation = evaluation[part]
    return float(evaluation)


def figures(comparison: Comparison, runs: Mapping[str, list[dict[str, Any]]]) -> list[float]:
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


def verdict(comparison: Comparison, values: list[float]) -> bool:
    """Whether the figures say what the comparison said before its run."""
    figure = {"mean": mean, "least": min, "most": max}[comparison.over](values)
    low, high = comparison.at_least, comparison.at_most
    return (low is None or figure >= low) and (high is None or figure <= high)
