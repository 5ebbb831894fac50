"""Measuring a run on held-out problems while it trains: which ones, how, and where it is kept."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import dist, fast
from ..config import Count, RunConfig, check_value
from ..evaluation import grade
from ..learn.rollout import fitting, sample_row
from ..policy import Policy, sample_groups
from ..prompt import format_of, parse
from ..records import Group, Problem, UserError
from ..rewards import is_right_answer
from ..runlog import append_jsonl, read_log, truncate_jsonl
from ..world import DATA_SETS, FAMILIES, clusters, keyed_rng, make_problems, read_problems

N_SHOWN = 16  # problems whose answers samples.jsonl keeps
EVAL_SEED = 1  # training draws are keyed otherwise, so no evaluation shares its sampling
SAMPLING = {"temperature": 0.6, "top_p": 0.95}  # the paper's, of evaluations


def held_out_source(source: str) -> str:
    """Where the test split to a training source is: a name of DATA_SETS, or a path; "" if unknown.

    A file or folder has one beside it if that has "test" for its "train".

    >>> held_out_source("gsm8k"), held_out_source("math:train"), held_out_source("my.jsonl")
    ('gsm8k:test', 'math:test', '')
    """
    name, path = source.partition(":")[0], Path(source)
    if name in DATA_SETS and not path.exists():
        return f"{name}:test"
    beside = path.parent / path.name.replace("train", "test", 1)
    return str(beside) if beside != path and beside.exists() else ""


def held_out(family: str, n: int) -> list[Problem]:
    """Up to n held-out problems: one per cluster first, then more on the same clusters."""
    n_clusters = len(clusters(family, "held_out"))
    for size in (n, 2 * n_clusters, n_clusters):
        if size <= n:
            try:
                return make_problems(family, "held_out", size, seed=EVAL_SEED)
            except UserError:
                continue
    raise UserError(f"{n} held-out problems of {family!r} asked for: it has none. Choose another.")


def subsample(problems: Sequence[Problem], n: int) -> list[Problem]:
    """n of the problems, always the same; all of them if there are no more, or for 0."""
    if not n or n >= len(problems):
        return list(problems)
    return keyed_rng("some", EVAL_SEED).sample(list(problems), n)


def eval_problems(cfg: RunConfig, n: int) -> list[Problem]:
    """Up to n problems to measure a run on: of the test split of cfg.problems if there is one, else
    held-out ones of cfg.family. Raises UserError where those would measure another thing.
    """
    if source := held_out_source(cfg.problems):
        return subsample(read_problems(source, to_train=False), n)
    if cfg.problems and any(p.family not in FAMILIES for p in read_problems(cfg.problems)):
        raise UserError(
            f"problems={cfg.problems!r} has no test split that is known: a run is measured on one. "
            "Name the file train.jsonl and put a test.jsonl beside it, or use `train` alone."
        )
    return held_out(cfg.family, n)


def sample_for_eval(
    policy: Policy,
    cfg: RunConfig,
    problems: Sequence[Problem],
    *,
    k: int = 16,
    temperature: float = SAMPLING["temperature"],
    top_p: float = SAMPLING["top_p"],
) -> list[Group]:
    """k answers to each problem with the paper's sampling and the length limit of the run.

    Of many processes each samples its share, and all get all groups. Raises UserError where k is
    no number of samples, or the weights are no numbers.
    """
    check_value("k", k, Count)
    weights = () if dist.is_distributed() else policy.model.parameters()
    if not all(weight.isfinite().all() for weight in weights):
        raise UserError(
            "the weights of the model hold NaN or infinity: nothing can be sampled from it. Use an "
            "earlier checkpoint of its run, or train it again with a lower learning_rate=."
        )
    with fast.sampling(policy, len(problems) * k, cfg.fast) as sampler:
        groups = sample_groups(
            sampler,
            dist.shard(problems),
            group_size=k,
            temperature=temperature,
            top_p=top_p,
            max_new_tokens=cfg.max_new_tokens,
            template=format_of(cfg),
            seed=EVAL_SEED,
        )
    return parse(dist.all_gather(groups), cfg.template)


class HeldOut:
    """A hook for a run (learn.run.Hook): a Report on held-out problems at some of its steps.

    problems  what it is measured on; also: name -> further ones, at the first and the last step
    every     updates between evaluations; there are two more before the first of them, since most
              of the change comes early
    rewards   as for train: their means on the problems are in the Report
    Leaves evals.jsonl (a Report at each step) and samples.jsonl (answers to the same N_SHOWN
    problems at each step) in the run's folder; a run that is resumed goes on with them.
    """

    def __init__(
        self,
        cfg: RunConfig,
        problems: Sequence[Problem],
        *,
        also: Mapping[str, Sequence[Problem]] | None = None,
        every: int = 20,
        k: int = 16,
        rewards: Any = None,
    ):
        check_value("every", every, Count)
        check_value("k", k, Count)
        self.rewards = rewards
        self.cfg, self.problems, self.also, self.k = cfg, problems, also or {}, k
        regular = [*range(every, cfg.steps, every), cfg.steps]
        early = [step for step in (every // 4, every // 2) if step] if len(regular) > 1 else []
        self.steps = {0, *early, *regular}

    def rows(self, run_dir: Path) -> dict[int, dict[str, Any]]:
        """Step -> its line of evals.jsonl."""
        return {row["step"]: row for row in read_log(run_dir / "evals.jsonl")}

    def due(self, step: int, run_dir: Path) -> bool:
        """Whether this step is to be measured, and has not been."""
        return step in self.steps and step not in self.rows(run_dir)

    def __call__(self, policy: Policy, step: int, run_dir: Path) -> None:
        """Sample, grade, and add a line to each file."""
        cfg, begun = self.cfg.at(step), time.perf_counter()
        # as in training those that do not fit are left out, and said: there are none the next time
        self.problems = fitting(self.problems, policy, self.cfg)
        self.also = {name: fitting(more, policy, self.cfg) for name, more in self.also.items()}
        groups = sample_for_eval(policy, cfg, self.problems, k=self.k)
        row: dict[str, Any] = {"step": step} | grade(
            groups, rewards=self.rewards, fmt=cfg.template
        ).as_dict()
        if self.also and step in (0, cfg.steps):
            row["also"] = {
                name: grade(
                    sample_for_eval(policy, cfg, more, k=self.k), fmt=cfg.template
                ).as_dict()
                for name, more in self.also.items()
            }
        row["seconds"] = round(time.perf_counter() - begun, 2)
        if not dist.is_main_process():
            return
        for name in ("evals.jsonl", "samples.jsonl"):
            truncate_jsonl(run_dir / name, step - 1)
        for group in groups[:N_SHOWN]:
            right = is_right_answer(group.problem, group.completions[0].answer)
            sample = {"step": step, "right": right} | sample_row(group)
            append_jsonl(run_dir / "samples.jsonl", sample)
        append_jsonl(run_dir / "evals.jsonl", row)
