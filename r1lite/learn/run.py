"""What surrounds any training: folder, lock, identity, resuming, log, progress, health, Ctrl-C,
evaluation, checkpoints and export. GRPO and supervised training both run on it."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from filelock import FileLock, Timeout

from .. import dist
from ..config import Count, TrainingConfig, check_value, settings_without_effect
from ..policy.adapters import merged
from ..policy.load import Policy, save_policy
from ..policy.shard import FullCopy, is_sharded
from ..records import StepLog, UserError
from ..runlog import (
    append_jsonl,
    atomic_path,
    describe_run,
    read_json,
    read_log,
    remove_leftovers,
    truncate_jsonl,
    write_json,
)
from .checkpoint import find_checkpoint, load_checkpoint, save_checkpoint, step_of, write_digests
from .clock import Clock
from .health import Health, lacks_memory
from .identity import LOCK, check_same_run, open_folder
from .interrupt import GracefulInterrupt

SHOWN = ("reward", "accuracy", "length", "loss")  # metrics beside the progress bar


class Hook(Protocol):
    """What is done beside the updates, e.g. an evaluation: asked before the first and after each
    rollout. A resumed run asks again at the step it goes on from."""

    def due(self, step: int, run_dir: Path) -> bool:
        """Whether to call it after this update (0: before the first); one process is asked."""

    def __call__(self, policy: Policy, step: int, run_dir: Path) -> Any:
        """Do it, with the policy as it is after this update, in every process."""


@dataclass
class Every:
    """A hook from a function of (policy, step): before the first update and every n updates."""

    n: int
    function: Callable[[Policy, int], Any]

    def __post_init__(self) -> None:
        check_value("n", self.n, Count)

    def due(self, step: int, run_dir: Path) -> bool:
        return step % self.n == 0

    def __call__(self, policy: Policy, step: int, run_dir: Path) -> Any:
        return self.function(policy, step)


@dataclass(frozen=True)
class Result:
    """What a run leaves: the trained policy, one StepLog for every update since it was begun, its
    folder, and whether Ctrl-C ended it early (everything up to then is kept)."""

    policy: Policy
    logs: list[StepLog]
    run_dir: Path
    interrupted: bool

    def __repr__(self) -> str:
        last = self.logs[-1] if self.logs else {}
        shown = [f"{k} {last[k]:.3f}" for k in SHOWN if k in last]
        ended = ", interrupted" if self.interrupted else ""
        return f"Result({len(self.logs)} updates{ended}; {', '.join(shown)}; {self.run_dir})"


class Run:
    """One training in its folder; a context in which updates are made.

    stage     "zero", "sft", ...: begins the name of the default folder, stands in run.json
    identity  what is computed (identity.identity_of); another one in the same folder is refused
    hooks     evaluations and the like
    step      updates made so far; checkpoint: the folder to resume from, or None
    sampler   the policy with a faster engine, for hooks; None: the policy that is kept
    Raises UserError where the folder holds another run, or is in use.
    """

    def __init__(
        self,
        cfg: TrainingConfig,
        stage: str,
        identity: Mapping[str, Any],
        *,
        hooks: Sequence[Hook] = (),
        progress: bool = True,
        on_step: Callable[[StepLog], None] | None = None,
    ):
        folder = cfg.run_dir or f"runs/{stage}-{identity['hash'][:8]}"
        self.cfg, self.stage, self.identity, self.run_dir = cfg, stage, identity, Path(folder)
        self.hooks, self.on_step, self.progress = hooks, on_step, progress
        self.clock, self.states, self.stopped = Clock(), {}, 0
        self.sampler: Policy | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Run:
        with contextlib.ExitStack() as stack:  # closed again if the start fails
            stack.enter_context(dist.process_group(self.cfg.device))
            if dist.is_main_process():
                open_folder(self.run_dir)
                stack.enter_context(self._lock())
                check_same_run(self.run_dir, self.identity, self.cfg)
            dist.barrier()
            self.checkpoint, warnings = find_checkpoint(self.run_dir)
            self.step = self.saved = step_of(self.checkpoint)
            if dist.is_main_process():
                self._prepare_folder()
            dist.barrier()
            self._health = Health(self.cfg.dtype)
            self._health.replay(read_log(self.run_dir / "metrics.jsonl"))
            self._bar = stack.enter_context(self._progress_bar())
            for warning in [*warnings, *settings_without_effect(self.cfg)]:
                self._say(f"warning: {warning}")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._stack.__exit__(kind, error, trace)
        if error and (said := lacks_memory(error)):
            raise UserError(said) from error

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """One writer a folder: two would tear each other's log. The system frees it at a kill."""
        lock = FileLock(self.run_dir / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"{self.run_dir} is in use by another process: a folder has one writer. Wait for "
                "that run to end, or set run_dir= to another folder."
            ) from None
        try:
            yield
        finally:
            lock.release()

    def _prepare_folder(self) -> None:
        """Cut the logs where the checkpoint stands, and write down what is run here."""
        remove_leftovers(self.run_dir)
        for path in self.run_dir.glob("*.jsonl"):
            truncate_jsonl(path, self.step)
        path = self.run_dir / "run.json"
        facts = describe_run(
            stage=self.stage, config=self.cfg.as_dict(), identity=dict(self.identity)
        )
        write_json(path, (read_json(path) if path.exists() else {}) | facts)

    def _progress_bar(self) -> Any:
        from tqdm import tqdm

        hidden = not (self.progress and dist.is_main_process())
        total, done = self.cfg.steps, self.step
        return tqdm(total=total, initial=done, desc=self.stage, unit="step", disable=hidden)

    def _say(self, line: str) -> None:
        if dist.is_main_process():
            self._bar.write(line)

    def enter(self, context: Any) -> Any:
        """Open a context that ends with the run, such as processes that sample."""
        return self._stack.enter_context(context)

    def keep(self, **states: Any) -> None:
        """Name what a checkpoint holds, and put back what the one to resume from has kept.

        policy is the model that is trained, loaded from self.checkpoint already; the others have
        state_dict() and load_state_dict(). One that is None is left out.
        """
        self.states = {name: state for name, state in states.items() if state is not None}
        if self.checkpoint:
            load_checkpoint(self.checkpoint, self.states)
        self._interrupt = self.enter(GracefulInterrupt())  # from here on there is work to save
        self._stack.push(self._save_at_error)
        self.clock.skip()

    def rollouts(self, updates: int = 1) -> Iterator[int]:
        """The number of the next update (from 1), until cfg.steps are made or Ctrl-C was pressed.
        Raises SystemExit(143) after SIGTERM, once the checkpoint is written.

        updates  that are made before the next one is asked for: hooks, checkpoints and Ctrl-C wait
        """
        self._call_hooks()
        while self.step < self.cfg.steps and not self.stopped:
            self.clock.lap("other")
            yield self.step + 1
            self.stopped = int(dist.all_reduce_max(self._interrupt.asked))
            is_last = self.stopped or self.step >= self.cfg.steps
            if self.step - self.saved >= self.cfg.checkpoint_every or is_last:
                save_checkpoint(self.run_dir, self.step, self.states)
                self.saved = self.step
            if self.stopped == signal.SIGTERM:
                raise SystemExit(143)  # whoever asked for it waits for the end of the process
            if self.stopped:
                self._say(f"stopped after step {self.step}; the same call goes on from there.")
            else:
                self._call_hooks()

    def _save_at_error(self, kind: Any, *error: Any) -> None:
        """Save what was trained up to an error, where weights are those after whole rollouts: an
        update that has begun leaves gradients. Of many processes one may have failed alone."""
        begun = any(p.grad is not None for p in self.states["policy"].model.parameters())
        unsaved = self.saved < self.step == self._whole and not dist.is_distributed()
        if unsaved and not begun and kind is not KeyboardInterrupt:
            with contextlib.suppress(Exception):  # the error itself is what a reader has to see
                save_checkpoint(self.run_dir, self.step, self.states)

    def _call_hooks(self) -> None:
        self._whole = self.step
        policy = self.sampler or self.states["policy"]
        for hook in self.hooks:
            if dist.broadcast(hook.due(self.step, self.run_dir)):
                if policy.engine is not None:
                    policy.engine.update(policy.model)
                hook(policy, self.step, self.run_dir)
                self.clock.skip()

    def log(self, **metrics: Any) -> StepLog:
        """Count an update and write down what it did: metrics.jsonl, progress bar, on_step.

        Raises RunStopped where going on would be a waste.
        """
        self.step += 1
        log = StepLog(step=self.step, **metrics)
        if warnings := self._health.observe(log):
            log["warnings"] = warnings
        self.clock.lap("train")
        log["seconds"] = self.clock.read()
        if dist.is_main_process():
            append_jsonl(self.run_dir / "metrics.jsonl", log)
            for warning in warnings:
                self._say(f"warning: {warning}")
            self._bar.update(1)
            self._bar.set_postfix({k: f"{log[k]:.3g}" for k in SHOWN if k in log})
        if self.on_step:
            self.on_step(log)
        return log

    def append(self, file: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows to another log of the folder; a resumed run cuts it at their "step"."""
        for row in rows if dist.is_main_process() else ():
            append_jsonl(self.run_dir / file, {"step": self.step} | dict(row))

    def result(self) -> Result:
        """Export the policy to run_dir/final if the run is complete; what the run leaves."""
        policy: Policy = self.states["policy"]
        engine = policy.engine  # asleep since its last answers: there is room for another model
        if is_sharded(policy.model):  # for a folder, and to go on without the others
            policy = FullCopy(policy, getattr(torch, self.cfg.dtype)).policy
        if self.step >= self.cfg.steps and dist.is_main_process():
            with atomic_path(self.run_dir / "final") as temporary:
                save_policy(replace(policy, model=merged(policy.model)), temporary)
                write_digests(temporary, self.step)
        dist.barrier()
        if engine is not None and dist.is_distributed():  # it uses the processes' ways to talk
            engine.close()
            policy = replace(policy, engine=None)
        elif engine is not None:
            engine.update(policy.model)
        logs = [StepLog(row) for row in read_log(self.run_dir / "metrics.jsonl")]
        return Result(policy, logs, self.run_dir, bool(self.stopped))
