"""Names in words what is wrong with a run, with the likely cause."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from ..records import StepLog, UserError

# what must be finite, in words
WATCHED = {"loss": "loss", "grad_norm": "gradient norm", "entropy": "entropy"}
PATIENCE = 3  # steps in a row before a symptom is called one


class RunStopped(UserError):
    """A run that cannot go on; what it learned up to its last checkpoint is kept."""


class Health:
    """Watches the step logs of one run; each symptom is reported once per onset.

    dtype  of the weights. In 16 bits sampler and trainer round differently, and an unlikely token's
           score is off by more than a nat in a healthy run: there only the mean over all tokens
           tells other weights from rounding. In float16 a gradient may also grow too large for the
           format; one such step is passed over.
    """

    def __init__(self, dtype: str = "float32") -> None:
        self._dtype = dtype
        self._streaks: dict[str, int] = {}

    def _streak(self, name: str, is_present: bool) -> int:
        self._streaks[name] = self._streaks.get(name, 0) + 1 if is_present else 0
        return self._streaks[name]

    def replay(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take up the streaks of a run that is resumed, from its rows of metrics.jsonl."""
        for row in rows:
            self.observe(StepLog(row))

    def observe(self, log: StepLog) -> list[str]:
        """New warnings about this step; raises RunStopped where going on would be a waste.

        What a training does not log is not watched: supervised training has no rewards.
        """
        skipped = self._dtype == "float16" and not math.isfinite(log.grad_norm)
        may_skip = 0 < self._streak("skipped", skipped) < PATIENCE
        watched = {n: log[n] for n in WATCHED if n in log}
        if may_skip:
            watched.pop("grad_norm")
        if not all(map(math.isfinite, watched.values())):
            shown = ", ".join(f"{words} {log[n]}" for n, words in WATCHED.items() if n in log)
            raise RunStopped(
                f"step {log.step}: {shown}: all must be finite. Most often the learning rate is "
                "too high or max_grad_norm too large. The last checkpoint is whole: lower "
                "learning_rate= and start in a new run_dir."
            )
        warnings = []
        if may_skip:
            warnings.append(f"step {log.step} was not made: its gradient overflowed in float16.")
        for name, (is_present, words) in self._symptoms(log).items():
            if self._streak(name, is_present) == PATIENCE:
                warnings.append(f"step {log.step}, {PATIENCE} steps in a row: {words}")
        return warnings

    def _symptoms(self, log: StepLog) -> dict[str, tuple[bool, str]]:
        """Name -> whether the step shows it, and what to say; of a rollout's metrics alone."""
        if "reward" not in log:
            return {}
        exact = self._dtype == "float32"
        gap = log.sampler_gap if exact else log.get("sampler_gap_mean", 0.0)
        unchecked = log.get("unchecked", 0.0)
        return {
            "cut off": (
                log.truncated == 1.0,
                "every answer was cut off at the length limit, so none could be right. "
                "Raise max_new_tokens, or start from a base that knows when to stop.",
            ),
            "equal": (
                log.informative_groups == 0.0 and log.truncated < 1.0,
                "in every group all answers that could be checked had the same reward (mean "
                f"{log.reward:.2f}), so all advantages are 0. {self._why_equal(log)}",
            ),
            "gap": (
                gap > (0.01 if exact else 0.05),
                f"sampler and trainer disagree on log-probabilities by {gap:.3f} nats "
                "before the update. The answers come from other weights or another temperature.",
            ),
            "unchecked": (
                unchecked > 0.05,
                f"a reward could not tell the worth of {unchecked:.0%} of the answers, and "
                "they teach nothing. Its checker is too slow or broken: try it on answers in "
                "rollouts.jsonl.",
            ),
        }

    @staticmethod
    def _why_equal(log: StepLog) -> str:
        if log.get("accuracy", 0.0) > 0.5:
            return "The problems are too easy now: take harder ones."
        return (
            "The problems are too hard, or the reward never fires: read a few answers in "
            "rollouts.jsonl and check the reward on them."
        )


def lacks_memory(error: BaseException) -> str:
    """What to lower, where an error says that the memory is full; else nothing."""
    said = " ".join(str(error).split())[:150]
    words = ("out of memory", "not enough memory", "can't allocate memory", "alloc_failed")
    full = isinstance(error, MemoryError) or any(word in said.lower() for word in words)
    if not full or not isinstance(error, (MemoryError, RuntimeError)):
        return ""
    return (
        f"no memory left ({said or type(error).__name__}): a checkpoint that was written is whole. "
        "Lower micro_batch_tokens=, then n_problems=, group_size= or max_new_tokens=; "
        "`python -m r1lite plan` says what fits."
    )
