"""R1-Zero's loop. One function, called by the notebooks, by the command line and by torchrun:

problems -> prompts -> groups of answers -> rewards -> advantages -> batch -> loss -> step -> log
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..config import RunConfig
from ..policy.load import Policy, load_policy, save_policy
from ..policy.sample import sample_groups
from ..records import Group, Problem, StepLog
from ..rewards import score
from ..rewards.rules import Reward
from ..runlog import (
    append_jsonl,
    atomic_path,
    describe_run,
    open_sinks,
    read_jsonl,
    remove_leftovers,
    truncate_jsonl,
    write_json,
)
from ..world import keyed_rng, make_problem, read_problems
from .checkpoint import check_same_run, find_checkpoint, load_checkpoint, save_checkpoint
from .clock import Clock
from .health import Health
from .interrupt import PoliteInterrupt
from .update import make_optimizer, minibatches, update


@dataclass(frozen=True)
class Result:
    """What a run leaves: the trained policy, one StepLog per update of this call, its folder, and
    whether Ctrl-C ended it early (everything up to then is kept)."""

    policy: Policy
    logs: list[StepLog]
    run_dir: Path
    interrupted: bool


def draw_problems(cfg: RunConfig, rollout: int, pool: Sequence[Problem] = ()) -> list[Problem]:
    """The problems of a rollout (counted from 0): the same for the same seed, in any process.

    pool  problems to draw from; empty generates them from the train split of cfg.family
    """
    if pool:
        return keyed_rng("pool", cfg.seed, rollout).choices(pool, k=cfg.n_problems)
    return [make_problem(cfg.family, "train", cfg.seed, rollout, i) for i in range(cfg.n_problems)]


def sample(policy: Policy, problems: Sequence[Problem], cfg: RunConfig, step: int) -> list[Group]:
    """A group of answers to each problem, not yet scored."""
    return sample_groups(
        policy,
        problems,
        n_answers=cfg.n_answers,
        max_new_tokens=cfg.max_new_tokens,
        temperature=cfg.temperature,
        template=cfg.template,
        seed=cfg.seed,
        step=step,
    )


def rollout(
    policy: Policy,
    problems: Sequence[Problem],
    cfg: RunConfig,
    step: int,
    rewards: Mapping[str, Reward] | None = None,
) -> list[Group]:
    """Sample a group of answers to each problem and score them."""
    return score(sample(policy, problems, cfg, step), cfg.reward_weights, rewards)


def rollout_figures(groups: Sequence[Group]) -> dict[str, float]:
    """Means over a rollout: its part of the StepLog."""
    answers = [rollout for group in groups for rollout in group.rollouts]

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
        "kept": mean([len(set(g.rewards)) > 1 for g in groups]),
        "entropy": -sum(sum(a.logps) for a in answers) / sum(len(a.token_ids) for a in answers),
    }


def train(
    cfg: RunConfig,
    *,
    rewards: Mapping[str, Reward] | None = None,
    progress: bool = True,
    on_step: Callable[[StepLog], None] | None = None,
) -> Result:
    """Train a policy by GRPO; resumes by itself if cfg.run_dir holds a checkpoint of this run.

    rewards   name -> function, for names other than the rules of r1lite.rewards
    on_step   called with each StepLog, e.g. to draw a live curve
    Ctrl-C ends the run after the rollout under way and saves; a second one ends it at once.
    Raises UserError where a setting, a file or a checkpoint is wrong, RunStopped on a NaN.
    """
    from tqdm import tqdm

    run_dir = Path(cfg.run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    pool = read_problems(cfg.problems) if cfg.problems else ()
    folder, warnings = find_checkpoint(run_dir)
    start = check_same_run(folder, cfg) if folder else 0
    policy = load_policy(str(folder or cfg.model), device=cfg.device, dtype=cfg.dtype)
    optimizer = make_optimizer(policy, cfg)
    reference = copy.deepcopy(policy.model).requires_grad_(False).eval() if cfg.beta else None
    if folder:
        load_checkpoint(folder, optimizer, reference)
    remove_leftovers(run_dir)
    for name in ("metrics.jsonl", "samples.jsonl"):
        truncate_jsonl(run_dir / name, start)
    write_json(run_dir / "run.json", describe_run(stage="zero", config=cfg.as_dict()))
    sinks, health, logs = open_sinks(cfg.log_to, run_dir), Health(), []
    if folder and (run_dir / "metrics.jsonl").exists():
        health.replay(read_jsonl(run_dir / "metrics.jsonl"))
    per_rollout = cfg.updates_per_rollout
    bar = tqdm(total=cfg.steps, initial=start, desc="GRPO", unit="step", disable=not progress)
    for warning in warnings:
        bar.write(f"warning: {warning}")

    step, saved, clock = start, start, Clock()
    with bar, PoliteInterrupt() as interrupt:
        while step < cfg.steps and not interrupt.asked:
            problems = draw_problems(cfg, step // per_rollout, pool)
            clock.lap("other")
            groups = sample(policy, problems, cfg, step + 1)
            clock.lap("rollout")
            groups = score(groups, cfg.reward_weights, rewards)
            clock.lap("reward")
            figures = rollout_figures(groups)
            gap = None
            for rows in minibatches(groups, cfg, step + 1):
                step += 1
                clock.lap("other")
                done = update(policy, rows, optimizer, cfg, step, reference)
                clock.lap("train")
                tokens = {k: done.pop(k) for k in ("tokens_trained", "tokens_computed")}
                gap = done["sampler_gap"] if gap is None else gap
                log = StepLog(step=step, **figures, **done | {"sampler_gap": gap})
                if reference is not None and step % cfg.reference_every == 0:
                    reference.load_state_dict(policy.model.state_dict())
                complaints = health.observe(log)
                clock.lap("other")
                row = asdict(log) | tokens | {"seconds": clock.read()}
                append_jsonl(
                    run_dir / "metrics.jsonl",
                    row | ({"warnings": complaints} if complaints else {}),
                )
                for sink in sinks:
                    sink(step, asdict(log))
                for complaint in complaints:
                    bar.write(f"warning: {complaint}")
                logs.append(log)
                bar.update(1)
                bar.set_postfix(
                    reward=f"{log.reward:.2f}",
                    right=f"{log.accuracy:.2f}",
                    tokens=f"{log.length:.0f}",
                )
                if on_step:
                    on_step(log)
            if step // cfg.samples_every > (step - per_rollout) // cfg.samples_every:
                _write_samples(run_dir, step, groups)
            if step - saved >= cfg.checkpoint_every or step == cfg.steps or interrupt.asked:
                save_checkpoint(run_dir, step, policy, optimizer, reference, cfg)
                saved = step
        if interrupt.asked:
            bar.write(f"stopped after step {step}; the same call goes on from there.")
    if step >= cfg.steps:
        with atomic_path(run_dir / "final") as temporary:
            save_policy(policy, temporary)
    return Result(policy, logs, run_dir, interrupted=interrupt.asked)


def _write_samples(run_dir: Path, step: int, groups: Sequence[Group]) -> None:
    for group in groups[:4]:
        answer, reward = group.rollouts[0], group.rewards[0]
        append_jsonl(
            run_dir / "samples.jsonl",
            {
                "step": step,
                "problem_id": group.problem.problem_id,
                "question": group.problem.question,
                "answer": answer.text,
                "reward": reward,
                "tokens": len(answer.token_ids),
                "truncated": answer.truncated,
            },
        )


__all__ = [
    "Result",
    "draw_problems",
    "rollout",
    "rollout_figures",
    "train",
]
