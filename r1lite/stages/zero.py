"""R1-Zero as a stage: pure RL on the base, measured on held-out problems as it goes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..config import Count, RunConfig, check_value
from ..learn import Result, train
from ..policy import Policy
from ..records import Problem
from ..runlog import read_json, write_json
from .held_out import (
    EVAL_SEED,
    SAMPLING,
    HeldOut,
    eval_problems,
    held_out,
    sample_for_eval,
)
from .ready import check_ready
from .search import search_metrics


def run_zero(
    cfg: RunConfig,
    *,
    arm: str = "full",
    rewards: Any = None,
    also: Mapping[str, Sequence[Problem]] | None = None,
    eval_every: int = 20,
    n_problems: int = 80,
    k: int = 16,
    progress: bool = True,
) -> tuple[Result, dict[str, Any]]:
    """Train, and evaluate every eval_every steps on what eval_problems(cfg, n_problems) gives;
    resumes by itself.

    rewards  other functions than the rules, as for train
    also     name -> further problems, measured on the base and at the end
    Leaves run.json (what was run, base and final evaluation), metrics.jsonl, evals.jsonl,
    rollouts.jsonl (answers of training) and samples.jsonl (answers to the same held-out problems
    at every evaluation) in the run's folder. Returns the result and the content of run.json, which
    is empty if Ctrl-C ended the run early.
    """
    check_value("eval_every", eval_every, Count)
    check_ready(cfg)
    problems = eval_problems(cfg, n_problems)
    hook = HeldOut(cfg, problems, also=also, every=eval_every, k=k)
    result = train(cfg, rewards=rewards, hooks=[hook], progress=progress)
    if result.interrupted:
        return result, {}
    rows = hook.rows(result.run_dir)
    seconds = sum(log.seconds["step"] for log in result.logs)
    measured = {  # a run that was begun without evaluations has none of its base
        when: {name: value for name, value in rows[step].items() if name not in ("step", "seconds")}
        for when, step in (("base", 0), ("final", cfg.steps))
        if step in rows
    }
    path = result.run_dir / "run.json"
    summary = read_json(path) | {
        "arm": arm,
        "seed": cfg.seed,
        "wall_seconds": round(seconds + sum(row["seconds"] for row in rows.values()), 1),
        "eval": measured | {"eval_sampling": SAMPLING | {"seed": EVAL_SEED}},
    }
    write_json(path, summary)
    return result, summary


def search_report(policy: Policy, *, n_problems: int = 80, group_size: int = 16) -> dict[str, Any]:
    """search_metrics of a policy at T 1 on held-out countdown problems."""
    problems = held_out("countdown", n_problems)
    groups = sample_for_eval(
        policy, RunConfig(), problems, k=group_size, temperature=1.0, top_p=1.0
    )
    return asdict(search_metrics(groups))


def is_finished(run_dir: Path | str) -> bool:
    """True if the run in this folder has its final evaluation."""
    path = Path(run_dir) / "run.json"
    return path.exists() and "final" in read_json(path).get("eval", {})
