"""The front half of a step: problems -> prompts -> groups of answers -> rewards."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import fmean
from typing import Any

from tqdm import tqdm

from .. import dist
from ..config import RunConfig
from ..policy.engine import Sampling
from ..policy.load import Policy
from ..policy.sample import sample_parts
from ..prompt import format_of, question_of
from ..records import Group, Problem, UserError, is_unchecked, known
from ..rewards import Reward, as_rewards, overlong_penalty, score
from ..world import keyed_order, make_problem
from .clock import Clock

ATTEMPTS = 4  # draws of a rollout with dynamic sampling, after which it takes what there is


def draw_problems(
    cfg: RunConfig, rollout: int, pool: Sequence[Problem] = (), attempt: int = 0
) -> list[Problem]:
    """The problems of a rollout (counted from 0): the same for the same seed, in any process.

    pool     problems to walk through, in another order each epoch; empty generates problems from
             the train split of cfg.family
    attempt  0, or which further draw of this rollout it is (dynamic sampling): the problems that
             come next in the walk. The next rollout starts where it would have without them
    A rollout holds no problem twice before it holds all of them: one that goes on into the next
    epoch passes over what it holds. So every problem is seen in every epoch; if the epoch ended
    with its last whole rollout instead, up to n_problems - 1 would not be.
    """
    n, size = cfg.n_problems, len(pool)
    numbers = range(attempt * n, (attempt + 1) * n)
    if not pool:
        return [make_problem(cfg.family, "train", cfg.seed, rollout, i) for i in numbers]
    different = min(numbers.stop, size)
    walk = range(rollout * n, rollout * n + 2 * different)  # at least half of these are different
    places = [keyed_order(size, "pool", cfg.seed, i // size)[i % size] for i in walk]
    places = list(dict.fromkeys(places))[:different]
    return [pool[places[i % different]] for i in numbers]


def fitting(problems: Sequence[Problem], policy: Policy, cfg: RunConfig) -> list[Problem]:
    """The problems whose prompt and longest answer fit the policy's context; says how many do not.

    Raises UserError if none fits, or if a word of one is unknown to the policy's tokenizer.
    """
    longest = cfg.at(cfg.extend_length_after + 1).max_new_tokens  # whatever cfg.steps is by now
    fmt = format_of(cfg)
    lengths = [len(policy.encode(policy.prompt(question_of(p, fmt), fmt))) for p in problems]
    # engines of several processes may have room for other lengths: one decides
    fits = dist.broadcast([n + longest <= policy.max_length for n in lengths])
    kept = [problem for problem, fit in zip(problems, fits) if fit]
    said = (
        f"{len(problems) - len(kept)} of {len(problems)} problems are left out: prompt and answer "
        f"do not fit the context of {policy.max_length} tokens; the longest prompt has "
        f"{max(lengths, default=0)}, an answer may have {longest}"
    )
    if problems and not kept:
        raise UserError(f"{said}. Lower max_new_tokens, or shorten the questions.")
    if len(kept) < len(problems) and dist.is_main_process():
        tqdm.write(f"warning: {said}.")
    return kept


def draws(
    cfg: RunConfig, step: int, pool: Sequence[Problem], groups: Sequence[Group]
) -> Iterator[list[Problem]]:
    """The problems of the rollout before an update: one draw, or more with dynamic sampling.

    groups  those that were sampled so far. With dynamic sampling (DAPO, arXiv 2503.14476, 3.2)
            problems are drawn until cfg.n_problems of them are informative, ATTEMPTS times at most
    """
    rollout = (step - 1) // cfg.updates_per_rollout
    for attempt in range(ATTEMPTS if cfg.dynamic_sampling else 1):
        if sum(map(is_informative, groups)) < cfg.n_problems:
            yield draw_problems(cfg, rollout, pool, attempt)


def is_informative(group: Group) -> bool:
    """Whether known rewards differ within the group; else all its advantages are 0."""
    return len(set(known(group.rewards))) > 1


def chosen(groups: Sequence[Group], cfg: RunConfig) -> list[Group]:
    """The cfg.n_problems groups to train on: the informative ones first, if more were sampled."""
    if not cfg.dynamic_sampling:
        return list(groups)
    return sorted(groups, key=is_informative, reverse=True)[: cfg.n_problems]


def sample(
    policy: Policy, problems: Sequence[Problem], cfg: RunConfig, step: int
) -> Iterator[list[Group]]:
    """Groups of answers to the problems, some at a time; of many processes each its share."""
    how = Sampling(
        group_size=cfg.group_size, max_new_tokens=cfg.max_new_tokens, temperature=cfg.temperature
    )
    mine = dist.shard(problems)
    return sample_parts(policy, mine, how, template=format_of(cfg), seed=cfg.seed, step=step)


def score_all(
    parts: Iterable[list[Group]],
    cfg: RunConfig,
    rewards: Any = None,
    clock: Clock | None = None,
) -> list[Group]:
    """All groups, from all processes, with their rewards.

    Each part is scored beside the sampling of the next, so that a slow reward costs only what it
    takes longer than the model; where a reward runs a model, scoring waits for all of the sampling.
    """
    clock, beside = clock or Clock(), ThreadPoolExecutor(1)
    rewards = rewards_of(cfg, rewards)
    if any(reward.needs_model for reward in rewards):
        parts = list(parts)
    try:
        scored = [beside.submit(score, part, rewards, cfg.template) for part in parts]
        clock.lap("rollout")
        groups = dist.all_gather(group for part in scored for group in part.result())
        clock.lap("reward")
    finally:
        beside.shutdown(wait=False, cancel_futures=True)  # an error waits for no reward
    return groups


def rewards_of(cfg: RunConfig, given: Any = None) -> list[Reward]:
    """The rewards of a run: what is given, and the rules of cfg that it does not replace."""

    def overlong(completion_ids: Sequence[Sequence[int]]) -> list[float]:
        limit, buffer = cfg.max_new_tokens, cfg.overlong_buffer
        return [overlong_penalty(len(ids), limit, buffer) for ids in completion_ids]

    also = [Reward("overlong", overlong)] if cfg.overlong_buffer else []
    return as_rewards(given, cfg.reward_weights, also)


def rollout_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """Means over a rollout, of METRICS; a reward that is no rule is "reward/name"."""
    answers = [completion for group in groups for completion in group.completions]

    def mean(values: list[float]) -> float:
        return sum(values) / max(len(values), 1)

    parts = {n: known(v for g in groups for v in g.parts[n]) for n in groups[0].parts}
    rules = {name: mean(parts.pop(name, [])) for name in ("accuracy", "format")}
    return {
        "reward": mean(known(r for g in groups for r in g.rewards)),
        **rules,
        "length": mean([len(a.token_ids) for a in answers]),
        "truncated": mean([a.truncated for a in answers]),
        "unchecked": mean(
            [any(map(is_unchecked, values)) for g in groups for values in zip(*g.parts.values())]
        ),
        "informative_groups": mean([is_informative(g) for g in groups]),
        "entropy": -sum(sum(a.logps) for a in answers) / sum(len(a.token_ids) for a in answers),
    } | {f"reward/{name}": fmean(values) for name, values in parts.items() if values}


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
