"""Names in words what is wrong with a run, with the likely cause."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from ..records import StepLog, UserError

PATIENCE = 3  # steps in a row before a symptom is called one


class RunStopped(UserError):
    """A run that cannot go on; what it learned up to its last checkpoint is kept."""


class Health:
    """Watches the step logs of one run; each symptom is reported once per onset.

    dtype  of the weights: short formats round differently in sampler and trainer
    """

    def __init__(self, dtype: str = "float32") -> None:
        self._gap = 1e-2 if dtype == "float32" else 1.0
        self._streaks: dict[str, int] = {}

    def replay(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take up the streaks of a run that is resumed, from its rows of metrics.jsonl."""
        for row in rows:
            self.observe(StepLog(**{f.name: row[f.name] for f in fields(StepLog) if f.name in row}))

    def observe(self, log: StepLog) -> list[str]:
        """New complaints about this step; raises RunStopped where going on would be a waste."""
        if not all(map(math.isfinite, (log.loss, log.grad_norm, log.entropy))):
            raise RunStopped(
                f"step {log.step}: loss {log.loss}, gradient norm {log.grad_norm}, entropy "
                f"{log.entropy}: all must be finite. Most often the learning rate is too high or "
                "max_grad_norm too large. The last checkpoint is whole: lower learning_rate= and "
                "start in a new run_dir."
            )
        symptoms = {
            "cut off": (
                log.truncated == 1.0,
                "every answer was cut off at the length limit, so none could be right. "
                "Raise max_new_tokens, or start from a base that knows when to stop.",
            ),
            "equal": (
                log.kept == 0.0 and log.truncated < 1.0,
                f"in every group all answers had the same reward (mean {log.reward:.2f}), so all "
                "advantages are 0 and nothing is learned. "
                + (
                    "The problems are too easy now: take harder ones."
                    if log.accuracy > 0.5
                    else "The problems are too hard, or the reward never fires: read a few "
                    "answers in rollouts.jsonl and check the reward on them."
                ),
            ),
            "gap": (
                log.sampler_gap > self._gap,
                f"sampler and trainer disagree on log-probabilities by {log.sampler_gap:.3f} nats "
                "before the update. The answers come from other weights or another temperature.",
            ),
            "unchecked": (
                log.unchecked > 0.05,
                f"a reward could not tell the worth of {log.unchecked:.0%} of the answers, and "
                "they count 0. Its checker is too slow or broken: try it on answers in "
                "rollouts.jsonl.",
            ),
        }
        complaints = []
        for name, (is_present, words) in symptoms.items():
            self._streaks[name] = self._streaks.get(name, 0) + 1 if is_present else 0
            if self._streaks[name] == PATIENCE:
                complaints.append(f"step {log.step}, {PATIENCE} steps in a row: {words}")
        return complaints
