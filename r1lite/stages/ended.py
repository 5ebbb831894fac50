"""How a run may end early: by Ctrl-C, or without memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # so that the command line need not wait for torch
    from ..learn import Result


def unless_interrupted(result: Result) -> Result:
    """The result; where Ctrl-C ended the run early, KeyboardInterrupt that says what is there."""
    if result.interrupted:
        step = result.logs[-1].step if result.logs else 0
        kept = result.run_dir / f"checkpoint-{step:06d}"
        raise KeyboardInterrupt(
            f"stopped after step {step}; {kept} is whole: the same command goes on from there"
        )
    return result


def lacks_memory(error: BaseException) -> str:
    """What to lower, where an error says that the memory is full; else nothing."""
    said = " ".join(str(error).split())[:150]
    words = ("out of memory", "not enough memory", "can't allocate memory", "alloc failed")
    full = isinstance(error, MemoryError) or any(word in said.lower() for word in words)
    if not full or not isinstance(error, (MemoryError, RuntimeError)):
        return ""
    return (
        f"no memory left ({said or type(error).__name__}): the last checkpoint is whole. Lower "
        "micro_batch_tokens=, then n_problems=, group_size= or max_new_tokens=; `python -m r1lite "
        "plan` says what fits."
    )
