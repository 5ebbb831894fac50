"""R1-Zero as a stage: pure RL on the base, measured on held-out problems as it goes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..config import RunConfig
from ..evaluate import Report, evaluate, search_figures
from ..learn import Result, train
from ..policy import Policy, load_policy, sample_groups
from ..records import Problem, UserError
from ..runlog import append_jsonl, describe_run, read_json, read_jsonl, truncate_jsonl, write_json
from ..world import clusters, make_problems

EVAL_SEED = 1  # training draws are keyed otherwise, so no evaluation shares its sampling


def held_out(family: str, n: int) -> list[Problem]:
    """Up to n held-out problems: one per cluster first, then more on the same clusters."""
    for size in (n, 2 * len(clusters(family, "held_out")), len(clusters(family, "held_out"))):
        if size <= n:
            try:
                return make_problems(family, "held_out", size, seed=EVAL_SEED)
            except UserError:
                continue
    raise UserError(f"{n} held-out problems of {family!r} asked for: it has none. Choose another.")


def measure(
    policy: Policy,
    cfg: RunConfig,
    problems: Sequence[Problem],
    *,
    k: int = 16,
    temperature: float = 0.6,
    top_p: float = 0.95,
) -> Report:
    """Evaluate with the paper's sampling and the length limit of the run."""
    return evaluate(
        policy,
        problems,
        k=k,
        temperature=temperature,
        top_p=top_p,
        max_new_tokens=cfg.max_new_tokens,
        template=cfg.template,
        seed=EVAL_SEED,
    )


def run_zero(
    cfg: RunConfig,
    *,
    arm: str = "full",
    eval_every: int = 20,
    n_problems: int = 80,
    k: int = 16,
    progress: bool = True,
) -> tuple[Result, dict[str, Any]]:
    """Train in stretches of eval_every steps and evaluate after each; resumes by itself.

    Leaves run.json (what was run, base and final evaluation), metrics.jsonl, samples.jsonl and
    evals.jsonl in cfg.run_dir. Returns the result and the content of run.json.
    """
    problems, run_dir = held_out(cfg.family, n_problems), Path(cfg.run_dir)
    begun = time.perf_counter()
    run_dir.mkdir(parents=True, exist_ok=True)
    evals = run_dir / "evals.jsonl"
    truncate_jsonl(evals, cfg.steps)  # drops the half line that a kill or a full disk left
    done = {row["step"]: row for row in read_jsonl(evals)} if evals.exists() else {}
    if 0 not in done:
        base = load_policy(cfg.model, device=cfg.device, dtype=cfg.dtype)
        done[0] = {"step": 0} | measure(base, cfg, problems, k=k).as_dict()
        append_jsonl(evals, done[0])
    targets = [*range(eval_every, cfg.steps, eval_every), cfg.steps]
    for target in targets:
        if target in done and target != targets[-1]:
            continue
        result = train(cfg.change(steps=target), progress=progress)
        if result.interrupted:
            return result, {}
        truncate_jsonl(evals, target - 1)
        done[target] = {"step": target} | measure(result.policy, cfg, problems, k=k).as_dict()
        append_jsonl(evals, done[target])
    summary = describe_run(
        stage="zero",
        arm=arm,
        seed=cfg.seed,
        config=cfg.as_dict(),
        wall_seconds=round(time.perf_counter() - begun, 1),
        eval={
            "base": {k_: v for k_, v in done[0].items() if k_ != "step"},
            "final": {k_: v for k_, v in done[cfg.steps].items() if k_ != "step"},
            "eval_sampling": {"temperature": 0.6, "top_p": 0.95, "seed": EVAL_SEED},
        },
    )
    write_json(run_dir / "run.json", summary)
    return result, summary


def search_report(policy: Policy, *, n_problems: int = 80, n_answers: int = 16) -> dict[str, Any]:
    """search_figures of a policy at T 1 on held-out countdown problems."""
    groups = sample_groups(
        policy,
        held_out("countdown", n_problems),
        n_answers=n_answers,
        max_new_tokens=RunConfig.max_new_tokens,
        seed=EVAL_SEED,
    )
    return asdict(search_figures(groups))


def finished(run_dir: Path | str) -> bool:
    """True if the run in this folder has its final evaluation."""
    path = Path(run_dir) / "run.json"
    return path.exists() and "final" in read_json(path).get("eval", {})
