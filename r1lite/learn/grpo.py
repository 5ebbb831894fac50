"""GRPO's loop. One function, called by the notebooks, by the command line and by torchrun:

problems -> prompts -> groups of answers -> rewards -> advantages -> batch -> loss -> step -> log
"""

from collections.abc import Callable, Sequence
from typing import Any

from .. import dist, fast
from ..config import RunConfig
from ..policy.adapters import Reference
from ..policy.load import Policy
from ..records import Group, Problem, StepLog, known
from ..rewards import unpayable
from ..world import as_problems, read_problems
from .identity import identity_of
from .models import load_for, make_reference
from .objective import grpo_loss
from .optimizer import make_optimizer, optimizer_step
from .rollout import chosen, draws, fitting, rollout_metrics, sample, sample_row, score_all
from .run import Hook, Result, Run
from .update import AdvantageFunction, LossFunction, backward, compute_advantages, minibatches

SAMPLER_GAPS = ("sampler_gap", "sampler_gap_mean")  # of the first mini-batch after a rollout
N_SHOWN = 4  # problems of which rollouts.jsonl keeps an answer


def train(
    cfg: RunConfig,
    *,
    problems: Sequence[Any] | None = None,
    rewards: Any = None,
    policy: Policy | None = None,
    loss: LossFunction = grpo_loss,
    advantages: AdvantageFunction | None = None,
    hooks: Sequence[Hook] = (),
    stage: str = "zero",
    progress: bool = True,
    on_step: Callable[[StepLog], None] | None = None,
) -> Result:
    """Train a policy by GRPO; resumes by itself if the run's folder holds a checkpoint of it.

    problems    Problems, or rows of a data set, in place of those that cfg names
    rewards     functions (a list, or name -> function) or Reward records: one named accuracy or
                format replaces that rule, the others stand beside the rules
    policy      a policy in memory in place of cfg.model; a copy is trained
    loss        loss(logps, batch, cfg) -> one value per answer, in place of objective.grpo_loss
    advantages  f(rewards (P, G)) or f(rewards, groups), in place of objective.group_advantages
    hooks       what is done beside the updates, such as an evaluation: see run.Hook, run.Every
    stage       names the run in its log and its default folder
    on_step     called with each StepLog once metrics.jsonl has it, e.g. to draw a live curve
    Ctrl-C ends the run after the rollout under way and saves; a second one ends it at once.
    Raises UserError where a setting, a file or a checkpoint is wrong, RunStopped on a NaN.
    """
    pool = problems_for(cfg, problems)
    identity = identity_of(
        cfg, rewards=rewards, problems=pool or None, policy=policy and policy.model,
        loss=None if loss is grpo_loss else loss, advantages=advantages,
    )  # fmt: skip
    with Run(cfg, stage, identity, hooks=hooks, progress=progress, on_step=on_step) as run:
        cfg = cfg.change(run_dir=str(run.run_dir))
        grpo(run, cfg, load_for(cfg, run.checkpoint, policy), pool, rewards, loss, advantages)
        return run.result()


def grpo(
    run: Run,
    cfg: RunConfig,
    policy: Policy,
    pool: Sequence[Problem],
    rewards: Any,
    loss_function: LossFunction,
    advantage_function: AdvantageFunction | None,
) -> None:
    """The loop itself (arXiv 2402.03300, algorithm 1): everything else is in Run."""
    optimizer, reference = make_optimizer(policy, cfg), make_reference(policy, cfg)
    run.keep(policy=policy, optimizer=optimizer, reference=reference)
    pool = fitting(pool, policy, cfg)
    sampler = start_sampling(run, policy, cfg)
    for step in run.rollouts(cfg.updates_per_rollout):
        now, groups = cfg.at(step), []  # the settings of this step, and its groups of answers
        update_engine(run, policy)
        for problems in draws(now, step, pool, groups):
            answers = sample(sampler, problems, now, step)
            groups += score_all(answers, now, rewards, run.clock)
        trained_on = chosen(groups, now)
        advantages = compute_advantages(trained_on, now, policy, reference, advantage_function)
        metrics, gaps = rollout_metrics(groups), {}
        for batch in minibatches(trained_on, advantages, now, step, policy):
            loss = backward(policy, batch, now, reference, loss_function)
            norm = optimizer_step(policy, [optimizer], now, run.step + 1)
            gaps = gaps or {name: loss[name] for name in SAMPLER_GAPS}
            run.log(**metrics | loss | norm | gaps)
            update_reference(reference, policy, cfg, run.step)
        keep_samples(run, groups, cfg)


def problems_for(cfg: RunConfig, problems: Sequence[Any] | None) -> Sequence[Problem]:
    """What rollouts draw from; empty where problems are generated."""
    if problems is not None:
        pool = as_problems(problems)
    else:
        pool = read_problems(cfg.problems) if cfg.problems else ()
    if dist.is_main_process():
        unpayable(pool)  # warns of golds that pay nobody
    return pool


def start_sampling(run: Run, policy: Policy, cfg: RunConfig) -> Policy:
    """The policy with the fastest engine that samples what it would, until the run ends."""
    n_rows = cfg.n_problems * cfg.group_size
    run.sampler = run.enter(fast.sampling(policy, n_rows, cfg.fast))
    return run.sampler


def update_engine(run: Run, policy: Policy) -> None:
    """Give an engine that holds weights of its own those of now."""
    if policy.engine is not None:
        policy.engine.update(policy.model)
        run.clock.lap("sync")


def update_reference(
    reference: Reference | None, policy: Policy, cfg: RunConfig, step: int
) -> None:
    """Every cfg.reference_every updates the reference becomes the policy (the paper: 400)."""
    if reference is not None and step % cfg.reference_every == 0:
        reference.update_from(policy.model)


def keep_samples(run: Run, groups: Sequence[Group], cfg: RunConfig) -> None:
    """Rows of rollouts.jsonl, where a multiple of cfg.samples_every has been passed."""
    before = run.step - cfg.updates_per_rollout
    if run.step // cfg.samples_every > before // cfg.samples_every:
        paid = ((known(g.rewards[:1]) or [None])[0] for g in groups)
        rows = ({"reward": r} | sample_row(g) for r, g in zip(paid, groups[:N_SHOWN]))
        run.append("rollouts.jsonl", list(rows))
