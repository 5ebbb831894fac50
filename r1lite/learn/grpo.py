"""R1-Zero's loop. One function, called by the notebooks, by the command line and by torchrun:

problems -> prompts -> groups of answers -> rewards -> advantages -> batch -> loss -> step -> log
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from .. import dist
from ..config import RunConfig
from ..policy.adapters import Reference, merged
from ..policy.load import Policy, load_policy, save_policy
from ..policy.shard import FullCopy, is_sharded, shard
from ..policy.writers import one_thread_each
from ..records import StepLog, UserError
from ..rewards import Reward
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
from ..world import read_problems
from .checkpoint import (
    check_same_run,
    find_checkpoint,
    is_sharded_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from .clock import Clock
from .health import Health
from .interrupt import GracefulInterrupt
from .rollout import collect_groups, reward_metrics, rollout_metrics, sample_row
from .update import make_optimizer, minibatches, update

LOADED = (
    "device", "dtype", "tuning", "lora_rank", "lora_alpha", "seed", "gradient_checkpointing",
)  # fmt: skip
ASIDE = (
    "tokens_trained",
    "tokens_computed",
    "sampler_gap_mean",
)  # of metrics.jsonl, not of a StepLog


@dataclass(frozen=True)
class Result:
    """What a run leaves: the trained policy, one StepLog per update of this call, its folder, and
    whether Ctrl-C ended it early (everything up to then is kept)."""

    policy: Policy
    logs: list[StepLog]
    run_dir: Path
    interrupted: bool


def train(
    cfg: RunConfig,
    *,
    rewards: Mapping[str, Reward] | None = None,
    progress: bool = True,
    on_step: Callable[[StepLog], None] | None = None,
) -> Result:
    """Train a policy by GRPO; resumes by itself if cfg.run_dir holds a checkpoint of this run.

    rewards   name -> function, in place of the rule of that name (accuracy, format) or beside
              them, where it counts once; in TRL's signature, sync or async (see rewards.score for
              what a function is handed)
    on_step   called with each StepLog once metrics.jsonl has it, e.g. to draw a live curve
    Ctrl-C ends the run after the rollout under way and saves; a second one ends it at once.
    Raises UserError where a setting, a file or a checkpoint is wrong, RunStopped on a NaN.
    """
    with dist.process_group(cfg.device):
        return _train(cfg, rewards, progress, on_step)


def _train(
    cfg: RunConfig,
    rewards: Mapping[str, Reward] | None,
    progress: bool,
    on_step: Callable[[StepLog], None] | None,
) -> Result:
    from tqdm import tqdm

    run_dir, leads = Path(cfg.run_dir), dist.is_main_process()
    run_dir.mkdir(parents=True, exist_ok=True)
    pool = read_problems(cfg.problems) if cfg.problems else ()
    folder, warnings = find_checkpoint(run_dir)
    start = check_same_run(folder, cfg) if folder else 0
    policy = load_for(cfg, folder)
    optimizer = make_optimizer(policy, cfg)
    reference = None
    if cfg.beta:
        second = _load_weights(cfg).model if is_sharded(policy.model) else None
        reference = Reference(policy.model, second)
    if folder:
        load_checkpoint(folder, policy, optimizer, reference)
    health, logs, sinks = Health(cfg.dtype), [], []
    if leads:  # one process writes
        remove_leftovers(run_dir)
        for name in ("metrics.jsonl", "rollouts.jsonl"):
            truncate_jsonl(run_dir / name, start)
        write_json(run_dir / "run.json", describe_run(stage="zero", config=cfg.as_dict()))
        sinks = open_sinks(cfg.log_to, run_dir)
    dist.barrier()
    if folder and (run_dir / "metrics.jsonl").exists():
        health.replay(read_jsonl(run_dir / "metrics.jsonl"))
    per_rollout = cfg.updates_per_rollout
    hidden = not (progress and leads)
    bar = tqdm(total=cfg.steps, initial=start, desc="GRPO", unit="step", disable=hidden)
    for warning in warnings if leads else ():
        bar.write(f"warning: {warning}")

    step, saved, clock, stop = start, start, Clock(), False
    n_rows = cfg.n_problems * cfg.group_size
    with bar, GracefulInterrupt() as interrupt, one_thread_each(policy, n_rows) as writer:
        while step < cfg.steps and not stop:
            now = cfg.at(step + 1)
            if policy.engine is not None:
                policy.engine.update(policy.model)
                clock.lap("sync")
            groups, every = collect_groups(writer, now, step + 1, pool, rewards, clock)
            figures, parts = rollout_metrics(every), reward_metrics(every)
            gaps = None
            for rows in minibatches(groups, now, step + 1, policy, reference):
                step += 1
                clock.lap("other")
                done = update(policy, rows, optimizer, now, step, reference)
                clock.lap("train")
                aside = {k: done.pop(k) for k in ASIDE}
                gaps = gaps or (done["sampler_gap"], aside["sampler_gap_mean"])
                done["sampler_gap"], aside["sampler_gap_mean"] = gaps
                log = StepLog(step=step, **figures, **done)
                if reference is not None and step % cfg.reference_every == 0:
                    reference.update_from(policy.model)
                complaints = health.observe(log, aside["sampler_gap_mean"])
                clock.lap("other")
                row = asdict(log) | parts | aside | {"seconds": clock.read()}
                logs.append(log)
                if leads:
                    append_jsonl(
                        run_dir / "metrics.jsonl",
                        row | ({"warnings": complaints} if complaints else {}),
                    )
                    for sink in sinks:
                        sink(step, asdict(log) | parts)
                    for complaint in complaints:
                        bar.write(f"warning: {complaint}")
                    bar.update(1)
                    bar.set_postfix(
                        reward=f"{log.reward:.2f}",
                        right=f"{log.accuracy:.2f}",
                        tokens=f"{log.length:.0f}",
                    )
                if on_step:
                    on_step(log)
            if leads and step // cfg.samples_every > (step - per_rollout) // cfg.samples_every:
                for group in groups[:4]:
                    row = {"step": step, "reward": group.rewards[0]} | sample_row(group)
                    append_jsonl(run_dir / "rollouts.jsonl", row)
            stop = dist.any_process(interrupt.asked)
            if step - saved >= cfg.checkpoint_every or step == cfg.steps or stop:
                save_checkpoint(run_dir, step, policy, optimizer, reference, cfg)
                saved = step
        if stop and leads:
            bar.write(f"stopped after step {step}; the same call goes on from there.")
    engine = policy.engine  # asleep since its last answers: there is room for another model
    if is_sharded(policy.model):  # for a folder, and to go on without the others
        policy = FullCopy(policy, getattr(torch, cfg.dtype)).policy
    if step >= cfg.steps and leads:
        with atomic_path(run_dir / "final") as temporary:
            save_policy(replace(policy, model=merged(policy.model)), temporary)
    dist.barrier()
    if engine is not None and dist.is_distributed():  # it uses the processes' ways to talk
        engine.close()
        policy = replace(policy, engine=None)
    elif engine is not None:
        engine.update(policy.model)
    return Result(policy, logs, run_dir, interrupted=stop)


def load_for(cfg: RunConfig, folder: Path | None = None) -> Policy:
    """The policy of a run at its start, or as a checkpoint of it has kept it.

    Under torchrun all weights are trained sharded, and an adapter is whole in every process.
    Its answers are written by vLLM if the settings say so.
    """
    policy = _load_weights(cfg, folder)
    if cfg.sampler == "own":
        if not is_sharded(policy.model):
            return policy
        return replace(policy, engine=FullCopy(policy, getattr(torch, cfg.dtype)))
    from ..policy.vllm_server import with_vllm

    return with_vllm(policy, cfg)


def _load_weights(cfg: RunConfig, folder: Path | None = None) -> Policy:
    how = {name: getattr(cfg, name) for name in LOADED}
    if cfg.tuning != "full":
        return load_policy(cfg.model, adapter=folder, **how)
    there = cfg.model if folder is None or is_sharded_checkpoint(folder) else str(folder)
    if not dist.is_distributed():
        if cfg.dtype == "bfloat16":
            raise UserError(
                'dtype="bfloat16" with tuning="full" in a process alone: weights of that format do '
                "not feel small steps. Start it by `torchrun --nproc-per-node 1 -m r1lite`, which "
                'keeps them in float32 and computes in bfloat16; or set dtype="float32".'
            )
        return load_policy(there, **how)
    policy = load_policy(there, **how | {"device": "cpu", "dtype": "float32"})
    shard(policy.model, cfg.device, getattr(torch, cfg.dtype))
    return policy
