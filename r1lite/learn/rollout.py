"""The front half of a step: problems -> prompts -> groups of answers -> rewards."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .. import dist
from ..config import RunConfig
from ..policy.load import Policy
from ..policy.sample import sample_parts
from ..records import Group, Problem
from ..rewards import Reward, overlong_penalty, score
from ..world import keyed_rng, make_problem
from .clock import Clock

ATTEMPTS = 4  # draws of a rollout with dynamic sampling, after which it takes what there is


def draw_problems(
    cfg: RunConfig, rollout: int, pool: Sequence[Problem] = (), attempt: int = 0
) -> list[Problem]:
    """The problems of a rollout (counted from 0): the same for the same seed, in any process.

    pool     problems to draw from; empty generates them from the train split of cfg.family
    attempt  0, or which further draw of this rollout it is (dynamic sampling)
    """
    n = cfg.n_problems
    if pool:
        again = (attempt,) if attempt else ()
        return keyed_rng("pool", cfg.seed, rollout, *again).choices(pool, k=n)
    numbers = range(attempt * n, (attempt + 1) * n)
    return [make_problem(cfg.family, "train", cfg.seed, rollout, i) for i in numbers]


def sample(policy: Policy, problems: Sequence[Problem], cfg: RunConfig, step: int) -> list[Group]:
    """A group of answers to each problem, not yet scored."""
    return [group for part in _written(policy, problems, cfg, step) for group in part]


def _written(policy: Policy, problems: Sequence[Problem], cfg: RunConfig, step: int):
    length, key = cfg.max_new_tokens, (cfg.seed, step)
    return sample_parts(
        policy, problems, cfg.group_size, length, cfg.temperature, 1.0, cfg.template, key
    )


def rollout(
    policy: Policy,
    problems: Sequence[Problem],
    cfg: RunConfig,
    step: int,
    rewards: Mapping[str, Reward] | None = None,
    clock: Clock | None = None,
) -> list[Group]:
    """Sample a group of answers to each problem and score them.

    Of many processes each does so with its share of the problems, and all get all groups.
    A rollout that is written in parts is scored in parts, each beside the writing of the next, so
    that a slow reward costs only what it takes longer than the model.
    """
    clock = clock or Clock()
    beside = ThreadPoolExecutor(1)
    try:
        written = _written(policy, dist.shard(problems), cfg, step)
        parts = [beside.submit(reward, part, cfg, rewards) for part in written]
        clock.lap("rollout")
        groups = dist.all_gather(group for part in parts for group in part.result())
        clock.lap("reward")
    finally:
        beside.shutdown(wait=False, cancel_futures=True)  # an error waits for no reward
    return groups


def reward(
    groups: Sequence[Group], cfg: RunConfig, rewards: Mapping[str, Reward] | None = None
) -> list[Group]:
    """Score groups by the rules of cfg, or by functions that are given."""

    def overlong(completion_ids: Sequence[Sequence[int]], **columns) -> list[float]:
        limit, buffer = cfg.max_new_tokens, cfg.overlong_buffer
        return [overlong_penalty(len(ids), limit, buffer) for ids in completion_ids]

    punished = {"overlong": overlong} if cfg.overlong_buffer else {}
    return score(groups, cfg.reward_weights, {**(rewards or {}), **punished})


def collect_groups(
    policy: Policy,
    cfg: RunConfig,
    step: int,
    pool: Sequence[Problem],
    rewards: Mapping[str, Reward] | None,
    clock: Clock,
) -> tuple[list[Group], list[Group]]:
    """The cfg.n_problems groups to train on before an update, and all that were sampled.

    With dynamic sampling (arXiv 2503.14476, 3.2) problems are drawn until so many groups have
    unequal rewards; groups that teach nothing fill up what is missing after ATTEMPTS draws.
    """
    index, teaching, every = (step - 1) // cfg.updates_per_rollout, [], []
    for attempt in range(ATTEMPTS if cfg.dynamic_sampling else 1):
        problems = draw_problems(cfg, index, pool, attempt)
        clock.lap("other")
        every += rollout(policy, problems, cfg, step, rewards, clock)
        teaching = [group for group in every if len(set(group.rewards)) > 1]
        if len(teaching) >= cfg.n_problems:
            break
    if not cfg.dynamic_sampling:
        return every, every
    rest = [group for group in every if len(set(group.rewards)) == 1]
    return (teaching + rest)[: cfg.n_problems], every


def rollout_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """Means over a rollout: its part of the StepLog."""
    answers = [completion for group in groups for completion in group.completions]

    def mean(values: list[float]) -> float:
        return sum(values) / max(len(values), 1)

    def part(name: str) -> float:
        return mean([v for g in groups for v in g.parts.get(name, ()) if v is not None])

    return {
        "reward": mean([r for g in groups for r in g.rewards]),
        "accuracy": part("accuracy"),
        "format": part("format"),
        "length": mean([len(a.token_ids) for a in answers]),
        "truncated": mean([a.truncated for a in answers]),
        "unchecked": mean([None in values for g in groups for values in zip(*g.parts.values())]),
        "informative_groups": mean([len(set(g.rewards)) > 1 for g in groups]),
        "entropy": -sum(sum(a.logps) for a in answers) / sum(len(a.token_ids) for a in answers),
    }


def reward_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """Means of the rewards that StepLog has no field for, as "reward/name"."""
    names = [name for name in groups[0].parts if name not in ("accuracy", "format")]
    told = {n: [v for g in groups for v in g.parts[n] if v is not None] for n in names}
    return {f"reward/{name}": sum(v) / len(v) for name, v in told.items() if v}


def sample_row(group: Group) -> dict[str, Any]:
    """The first answer to a problem, as a row of rollouts.jsonl and samples.jsonl."""
    first, problem = group.completions[0], group.problem
    return {
        "problem_id": problem.problem_id,
        "question": problem.question,
        "answer": first.text,
        "tokens": len(first.token_ids),
        "truncated": first.truncated,
    }
