"""How a run may end early: by Ctrl-C."""

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
