"""R1-Zero as a stage: pure RL on the base, measured on held-out problems as it goes."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..config import RunConfig
from ..evaluation import Report, grade
from ..learn import Result, train
from ..learn.rollout import sample_row
from ..policy import Policy, load_policy, sample_groups
from ..records import Group, Problem, UserError
from ..rewards import Reward, is_right_output
from ..runlog import append_jsonl, describe_run, read_json, read_jsonl, truncate_jsonl, write_json
from ..world import clusters, keyed_rng, make_problems, read_problems
from ..world.datasets import HUB
from .search import search_metrics

N_SHOWN = 16  # problems whose answers samples.jsonl keeps
EVAL_SEED = 1  # training draws are keyed otherwise, so no evaluation shares its sampling


def held_out_source(source: str) -> str:
    """Where the test split to a training source is: a name of HUB, or a path; "" if none is known.

    A file or folder has one beside it if that has "test" for its "train".

    >>> held_out_source("gsm8k"), held_out_source("math:train"), held_out_source("my.jsonl")
    ('gsm8k:test', 'math:test', '')
    """
    name, path = source.partition(":")[0], Path(source)
    if name in HUB and not path.exists():
        return f"{name}:test"
    beside = path.parent / path.name.replace("train", "test", 1)
    return str(beside) if beside != path and beside.exists() else ""


def held_out(family: str, n: int) -> list[Problem]:
    """Up to n held-out problems: one per cluster first, then more on the same clusters."""
    for size in (n, 2 * len(clusters(family, "held_out")), len(clusters(family, "held_out"))):
        if size <= n:
            try:
                return make_problems(family, "held_out", size, seed=EVAL_SEED)
            except UserError:
                continue
    raise UserError(f"{n} held-out problems of {family!r} asked for: it has none. Choose another.")


def some(problems: Sequence[Problem], n: int) -> list[Problem]:
    """n of the problems, always the same; all of them if there are no more, or for 0."""
    if not n or n >= len(problems):
        return list(problems)
    return keyed_rng("some", EVAL_SEED).sample(list(problems), n)


def exam(cfg: RunConfig, n: int) -> list[Problem]:
    """Up to n problems to measure a run on: of the test split of cfg.problems if there is one, else
    held-out ones of cfg.family. Raises UserError where those would measure another thing.
    """
    if source := held_out_source(cfg.problems):
        return some(read_problems(source, to_train=False), n)
    if cfg.problems and any(p.family == "maths" for p in read_problems(cfg.problems)):
        raise UserError(
            f"problems={cfg.problems!r} has no test split that is known: a run is measured on one. "
            "Name the file train.jsonl and put a test.jsonl beside it, or use `train` alone."
        )
    return held_out(cfg.family, n)


def answer(
    policy: Policy,
    cfg: RunConfig,
    problems: Sequence[Problem],
    *,
    k: int = 16,
    temperature: float = 0.6,
    top_p: float = 0.95,
) -> list[Group]:
    """k answers to each problem with the paper's sampling and the length limit of the run."""
    return sample_groups(
        policy,
        problems,
        group_size=k,
        temperature=temperature,
        top_p=top_p,
        max_new_tokens=cfg.max_new_tokens,
        template=cfg.template,
        seed=EVAL_SEED,
    )


def measure(policy: Policy, cfg: RunConfig, problems: Sequence[Problem], **sampling: Any) -> Report:
    """The report on answer(...), whose arguments these are."""
    return grade(answer(policy, cfg, problems, **sampling))


def run_zero(
    cfg: RunConfig,
    *,
    arm: str = "full",
    rewards: Mapping[str, Reward] | None = None,
    also: Mapping[str, Sequence[Problem]] | None = None,
    eval_every: int = 20,
    n_problems: int = 80,
    k: int = 16,
    progress: bool = True,
) -> tuple[Result, dict[str, Any]]:
    """Train in stretches of eval_every steps (two shorter ones first, if there is more than one)
    and evaluate after each, on what exam(cfg, n_problems) gives; resumes by itself.

    rewards  other functions than the rules, as for train
    also     name -> further problems, measured on the base and at the end
    Leaves run.json (what was run, base and final evaluation), metrics.jsonl, evals.jsonl,
    rollouts.jsonl (answers of training) and samples.jsonl (answers to the same held-out problems
    at every evaluation) in cfg.run_dir. Returns the result and the content of run.json.
    """
    problems, run_dir = exam(cfg, n_problems), Path(cfg.run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    evals = run_dir / "evals.jsonl"
    truncate_jsonl(evals, cfg.steps)  # drops the half line that a kill or a full disk left
    done = {row["step"]: row for row in read_jsonl(evals)} if evals.exists() else {}

    def measure_at(policy: Policy, step: int) -> None:
        for name in ("evals.jsonl", "samples.jsonl"):
            truncate_jsonl(run_dir / name, step - 1)
        now, begun = cfg.at(step), time.perf_counter()
        groups = answer(policy, now, problems, k=k)
        done[step] = {"step": step} | grade(groups).as_dict()
        if also and step in (0, cfg.steps):
            done[step]["also"] = {
                name: measure(policy, now, more, k=k).as_dict() for name, more in also.items()
            }
        for group in groups[:N_SHOWN]:
            right = is_right_output(group.problem, group.completions[0].text)
            append_jsonl(
                run_dir / "samples.jsonl", {"step": step, "right": right} | sample_row(group)
            )
        done[step]["seconds"] = round(time.perf_counter() - begun, 2)
        append_jsonl(evals, done[step])

    if 0 not in done:
        measure_at(load_policy(cfg.model, device=cfg.device, dtype=cfg.dtype), 0)
    targets = [*range(eval_every, cfg.steps, eval_every), cfg.steps]
    if len(targets) > 1:  # most of the change comes before the first of them
        targets = [t for t in (eval_every // 4, eval_every // 2) if t] + targets
    for target in targets:
        if target in done and target != targets[-1]:
            continue
        result = train(cfg.change(steps=target), rewards=rewards, progress=progress)
        if result.interrupted:
            return result, {}
        measure_at(result.policy, target)
    trained = sum(row["seconds"]["step"] for row in read_jsonl(run_dir / "metrics.jsonl"))
    base, final = (
        {name: value for name, value in done[step].items() if name not in ("step", "seconds")}
        for step in (0, cfg.steps)
    )
    summary = describe_run(
        stage="zero",
        arm=arm,
        seed=cfg.seed,
        config=cfg.as_dict(),
        wall_seconds=round(trained + sum(row["seconds"] for row in done.values()), 1),
        eval={
            "base": base,
            "final": final,
            "eval_sampling": {"temperature": 0.6, "top_p": 0.95, "seed": EVAL_SEED},
        },
    )
    write_json(run_dir / "run.json", summary)
    return result, summary


def search_report(policy: Policy, *, n_problems: int = 80, group_size: int = 16) -> dict[str, Any]:
    """search_metrics of a policy at T 1 on held-out countdown problems."""
    problems = held_out("countdown", n_problems)
    groups = answer(policy, RunConfig(), problems, k=group_size, temperature=1.0, top_p=1.0)
    return asdict(search_metrics(groups))


def finished(run_dir: Path | str) -> bool:
    """True if the run in this folder has its final evaluation."""
    path = Path(run_dir) / "run.json"
    return path.exists() and "final" in read_json(path).get("eval", {})
