"""The verbs of the command line, python -m r1lite <verb>, and their settings."""

from __future__ import annotations

import argparse
import ast
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from .config import PRESETS, Count, CountOrNone, RunConfig, SftConfig, check_value, preset
from .records import UserError
from .stages.ended import unless_interrupted
from .stages.ready import check_gpu, check_ready


class AsGiven(RunConfig):
    """Settings of one RL run."""  # tyro would wrap what RunConfig says about them

    def __post_init__(self) -> None:
        """Checked once they are parsed."""


class SftAsGiven(SftConfig):
    """Settings of one supervised training."""

    def __post_init__(self) -> None:
        """Checked once they are parsed."""


Settings = tyro.conf.OmitArgPrefixes[AsGiven]


@dataclass
class Run:
    """the main job: R1-Zero in miniature, table and figure"""

    run_dir: str = "runs/miniature"  # resumed if it exists
    steps: int = 25  # RL steps

    def do(self) -> None:
        from .lab.report import run_miniature

        run_miniature(Path(self.run_dir), steps=self.steps)


@dataclass
class Zero:
    """pure RL on a base, measured on held-out problems; resumes by itself"""

    cfg: Settings
    eval_every: int = 20  # updates between evaluations
    preset = "tiny"  # whose GPU it is; `parse` sets it

    def do(self) -> None:
        check_value("eval_every", self.eval_every, Count)
        check_ready(self.cfg, self.preset)
        from . import dist
        from .policy.hub import check_network
        from .stages.zero import run_zero

        run_dir = self.cfg.run_dir  # what is resumed has weights of its own
        if run_dir and not Path(run_dir, "run.json").exists():
            check_network(self.cfg.model)
        result, _ = run_zero(self.cfg, eval_every=self.eval_every)
        unless_interrupted(result)
        if dist.is_main_process():
            print(f"log, samples and model: {result.run_dir}")


@dataclass
class Sft:
    """supervised fine-tuning on rows of prompt and completion, or text; resumes by itself"""

    cfg: tyro.conf.OmitArgPrefixes[SftAsGiven] = field(default_factory=SftAsGiven)

    def do(self) -> None:
        from . import dist
        from .learn import train_sft

        result = unless_interrupted(train_sft(self.cfg))
        if dist.is_main_process():
            print(f"log and model: {result.run_dir}")


@dataclass
class Base:
    """make the tiny base from a seed (about 15 minutes)"""

    steps: int = 0  # of 64 documents each; 0: as the shipped one
    seed: int = 0  # of weights and documents
    out: str = ""  # folder; data/tiny-base if not given
    no_reflection: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False  # leave out its markers

    def do(self) -> None:
        from .stages.base import STEPS, build_base

        name = "tiny-base" + ("-no-reflection" if self.no_reflection else "")
        out, work = self.out or f"data/{name}", f"runs/{name}-seed{self.seed}"
        reflect = not self.no_reflection
        build_base(out, steps=self.steps or STEPS, seed=self.seed, reflect=reflect, work=work)
        print(f"base written to {out}; next: python -m r1lite gate --model {out} --log {work}")


@dataclass
class Gate:
    """measure whether a base is fit for RL in every family"""

    model: str = "data/tiny-base"  # a base
    work: str = "runs/gate"  # resumed if it exists
    log: str = ""  # where the base was made: write its card, too

    def do(self) -> None:
        from .stages.card import write_card
        from .stages.gate import run_gate

        metrics = run_gate(self.model, work=self.work)
        print(json.dumps({key: metrics[key] for key in ("search", "verdicts")}, indent=1))
        if self.log:
            write_card(self.model, self.log, metrics)
        if not all(metrics["verdicts"].values()):
            raise UserError("the gate is closed: the lines that are false above have to hold first")


@dataclass
class Evaluate:
    """pass@1 and more on held-out problems"""

    cfg: Settings
    n_held_out: int = 0  # problems; 80, or all of --problems, if not given
    k: Annotated[int, tyro.conf.arg(aliases=["-k"])] = 16  # samples per problem
    preset = "tiny"

    def do(self) -> None:
        check_value("k", self.k, Count)
        check_value("n_held_out", self.n_held_out, CountOrNone)
        check_gpu(self.cfg, self.preset)
        from .evaluation import grade
        from .learn.checkpoint import damage
        from .learn.rollout import fitting
        from .policy import load_policy
        from .stages.held_out import held_out, sample_for_eval, subsample
        from .world import read_problems

        cfg = self.cfg
        if Path(cfg.model, "state.json").exists() and (fault := damage(Path(cfg.model))):
            raise UserError(
                f"{cfg.model} is damaged: {fault}. Run its training again: it writes its final "
                "model anew. Delete its state.json if you have changed it yourself."
            )
        if cfg.problems:
            problems = subsample(read_problems(cfg.problems, to_train=False), self.n_held_out)
        else:
            problems = held_out(cfg.family, self.n_held_out or 80)
        policy = load_policy(cfg.model, device=cfg.device, dtype=cfg.dtype)
        problems = fitting(problems, policy, cfg)
        report = grade(sample_for_eval(policy, cfg, problems, k=self.k), fmt=cfg.template)
        print(json.dumps(report.as_dict(), indent=1))


@dataclass
class Bench:
    """time a step: its parts, and each optimization"""

    model: str = ""  # a folder; the shipped base if not given
    device: str = "cpu"  # cpu, cuda or auto
    steps: int = 6  # timed steps; the first is left out
    ladder: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False  # switch each optimization off
    rounds: int = 5  # of the ladder, interleaved

    def do(self) -> None:
        check_value("rounds", self.rounds, Count)
        from .lab import bench

        place = bench.RESULT if self == Bench(ladder=self.ladder) else bench.OTHER
        model = {"model": self.model} if self.model else {}
        cfg = bench.bench_config(steps=self.steps, device=self.device, **model)
        if self.ladder:
            steps = bench.ladder(cfg.change(steps=4), rounds=self.rounds)
            print(json.dumps(steps, indent=1))  # first: it may be that nothing can be written
            bench.keep("ladder", steps, cfg, place)
        else:
            step = bench.bench(cfg)
            print(bench.table(step))
            bench.keep("step", step, cfg, place)
        print(f"kept in {place}", file=sys.stderr)


@dataclass
class Plan:
    """will a run fit into a GPU? from a model's config alone"""

    cfg: Settings
    preset: str = "tiny"  # whose GPU it is
    memory: float = 0.0  # GiB; else the preset's
    gpu: Literal["", "T4", "L4", "RTX 3090", "RTX 4090", "A100", "H100", "H200"] = ""  # for times
    gpus: int = 0  # how many; else the preset's, or 1
    prompt_tokens: int = 256  # of the longest prompt

    def do(self) -> None:
        from .lab.report import describe_plan

        gpus, _, each = self.preset.removesuffix("gb").rpartition("x")
        memory = self.memory or float(each if each.isdigit() else 0)
        if not memory:
            raise UserError(
                f"preset {self.preset!r} names no GPU: the plan needs its memory. Set --memory to "
                "GiB."
            )
        gpus = self.gpus or int(gpus or 1)
        print(describe_plan(self.cfg, self.preset, memory, self.gpu, gpus, self.prompt_tokens))


@dataclass
class Sandbox:
    """which jails work here; --attack tries to get out"""

    attack: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False  # run all of data/attacks
    jail: str = "auto"  # bubblewrap or namespaces; both if auto
    only: tuple[str, ...] = ()  # names of attacks; all if not given

    def do(self) -> None:
        from tqdm import tqdm

        from .lab import attacks
        from .sandbox import JAILS

        wanted = JAILS[:2] if self.jail == "auto" else (self.jail,)
        faults = {jail: attacks.works(jail) for jail in wanted}
        for jail, why in faults.items():
            print(f"{jail}: {why or 'works here'}")
        working = [jail for jail, why in faults.items() if not why]
        if not working:
            raise UserError(" ".join(faults.values()))
        if not self.attack:
            return
        n, reports = len(attacks.attacks(self.only)), {}
        for jail in working:
            reports[jail] = list(tqdm(attacks.run_attacks(jail, self.only), jail, n))
        print(attacks.table(reports))
        print(attacks.summary(reports))


@dataclass
class Record:
    """run or resume the recorded runs, redraw the README"""

    names: tyro.conf.Positional[tuple[str, ...]] = ()  # all if none is given

    def do(self) -> None:
        from .lab.report import redraw
        from .stages.record import names, record

        for name in self.names or names():
            record(name)
        redraw()


VERBS: dict[str, type] = {
    "run": Run, "zero": Zero, "sft": Sft, "base": Base, "gate": Gate, "evaluate": Evaluate,
    "bench": Bench, "plan": Plan, "sandbox": Sandbox, "record": Record,
}  # fmt: skip
# read from the source, as Python forgets them under -OO
ABOUT = {
    node.name.lower(): ast.get_docstring(node) or ""
    for node in ast.parse(Path(__file__).read_text(encoding="utf-8")).body
    if isinstance(node, ast.ClassDef)
}
SWITCHES = ("base", "bench", "sandbox")  # their flags take no value: --attack
PLAIN = (tyro.conf.FlagConversionOff,)  # --dynamic-sampling False is False


def parse(verb: str, args: Sequence[str]) -> Any:
    """The settings of a verb. Where they are a run's, --preset decides what is not given."""
    kind, parser = VERBS[verb], argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    how = {"prog": f"python -m r1lite {verb}", "description": ABOUT[verb]}
    if "cfg" not in kind.__dataclass_fields__:
        return tyro.cli(kind, args=list(args), config=() if verb in SWITCHES else PLAIN, **how)
    if verb == "sft":
        asked = tyro.cli(kind, args=list(args), config=PLAIN, **how)
        asked.cfg = SftConfig(**asked.cfg.as_dict())
        return asked
    parser.add_argument("--preset", default="tiny")
    known, rest = parser.parse_known_args(list(args))
    default = kind(cfg=AsGiven(**preset(known.preset).as_dict()))
    default.preset = known.preset
    how["description"] = f"{ABOUT[verb]}\n\n--preset {'|'.join(PRESETS)}: what is not given"
    asked = tyro.cli(kind, args=rest, default=default, config=PLAIN, **how)
    asked.cfg, asked.preset = RunConfig(**asked.cfg.as_dict()), known.preset
    return asked
