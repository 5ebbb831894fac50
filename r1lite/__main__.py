"""The command line: python -m r1lite <verb>; `--help` on each verb lists its settings."""

import argparse
import contextlib
import dataclasses
import json
import sys
from pathlib import Path

from . import dist
from .config import PRESETS, RunConfig, field_help, preset
from .records import UserError


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", default="tiny", help=f"one of {', '.join(PRESETS)}")
    helps = field_help()
    for field in dataclasses.fields(RunConfig):
        flag, kind = f"--{field.name.replace('_', '-')}", type(field.default)
        if kind is tuple:
            parser.add_argument(flag, nargs="*", default=None, help=helps[field.name])
        else:
            parser.add_argument(
                flag, type=kind, default=None, help=f"{helps[field.name]} (tiny: {field.default})"
            )


def _config(args: argparse.Namespace) -> RunConfig:
    given = {f.name: getattr(args, f.name) for f in dataclasses.fields(RunConfig)}
    changes = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items() if v is not None}
    return preset(args.preset, **changes)


def _run(args: argparse.Namespace) -> None:
    from .lab.report import run_miniature

    run_miniature(Path(args.run_dir), steps=args.steps)


def _zero(args: argparse.Namespace) -> None:
    from .learn import train

    result = train(_config(args))
    if dist.is_main_process():
        print(f"log, samples and model: {result.run_dir}")


def _base(args: argparse.Namespace) -> None:
    from .stages.base import STEPS, build_base

    name = "tiny-base" + ("-no-reflection" if args.no_reflection else "")
    out, work = args.out or f"data/{name}", f"runs/{name}-seed{args.seed}"
    build_base(
        out,
        steps=STEPS if args.steps is None else args.steps,
        seed=args.seed,
        reflect=not args.no_reflection,
        work=work,
    )
    print(f"base written to {out}; next: python -m r1lite gate --model {out} --log {work}")


def _gate(args: argparse.Namespace) -> None:
    from .stages.card import write_card
    from .stages.gate import run_gate

    figures = run_gate(args.model, work=args.work)
    print(json.dumps({key: figures[key] for key in ("search", "verdicts")}, indent=1))
    if args.log:
        write_card(args.model, args.log, figures)
    if not all(figures["verdicts"].values()):
        raise UserError("the gate is closed: the lines that are false above have to hold first.")


def _evaluate(args: argparse.Namespace) -> None:
    from .policy import load_policy
    from .stages.zero import held_out, measure, some
    from .world import read_problems

    cfg, n = _config(args), args.n_held_out
    if cfg.problems:
        problems = some(read_problems(cfg.problems, to_train=False), n)
    else:
        problems = held_out(cfg.family, n or 80)
    policy = load_policy(cfg.model, device=cfg.device, dtype=cfg.dtype)
    report = measure(policy, cfg, problems, k=args.k)
    print(json.dumps(report.as_dict(), indent=1))


def _bench(args: argparse.Namespace) -> None:
    from .lab import bench, bench_gpu, bench_rewards, growth

    changes = {"steps": args.steps, "device": args.device}
    with contextlib.ExitStack() as stack:
        if args.what == "gpu":
            print(bench_gpu.bench_gpu(bench_gpu.gpu_config(steps=args.steps)))
            return
        if args.shape:
            cfg = stack.enter_context(bench_gpu.random_work(args.shape, **changes))
            path = bench_gpu.RECORDS / f"{args.shape}_compared.json"
        else:
            cfg = bench.bench_config(**changes | ({"model": args.model} if args.model else {}))
            path = bench.RESULT
        if args.against == "trl" or args.to:
            from importlib.metadata import version

            from .lab.bench_trl import against_trl, seconds_to
        if args.what == "rewards":
            found = bench_rewards.bench_rewards(rounds=args.rounds)
            bench.keep("rewards", found, cfg, path)
            print(bench_rewards.table(found))
            return
        if args.growth:
            found = growth.growth()
            growth.growth_figure(found, bench.RESULT.with_name("bench_growth.png"))
            bench.keep("growth", found, cfg, path)
        elif args.ladder:
            found = bench.ladder(cfg.change(steps=4), rounds=args.rounds)
            bench.keep("ladder", found, cfg, path)
        elif args.against == "generate":
            found = bench.against_generate(cfg, rounds=args.rounds)
            bench.keep("generate", found, cfg, path)
        elif args.to:
            found = [
                seconds_to(cfg.change(seed=seed, steps=60), args.to, args.trl_rows)
                for seed in range(args.seeds)
            ]
            bench.keep("to", {"threshold": args.to, "runs": found}, cfg, path)
        elif args.against == "trl":
            found = against_trl(cfg, rounds=args.rounds)
            bench.keep("trl", found, cfg, path, trl=version("trl"))
        else:
            found = bench.bench(cfg)
            bench.keep("step", found, cfg, path)
            print(bench.table(found))
            return
        print(json.dumps(found, indent=1))


def _plan(args: argparse.Namespace) -> None:
    from .lab.plan import GPUS, USUAL, expected_seconds, least_seconds, plan

    gpus, _, each = args.preset.removesuffix("gb").rpartition("x")
    memory = args.memory or float(each if each.isdigit() else 0)
    if not memory:
        raise UserError(
            f"preset {args.preset!r} names no GPU: the plan needs its memory. Set --memory to GiB."
        )
    cfg, gpus = _config(args), args.gpus or int(gpus or 1)
    work = f"{cfg.n_problems} problems x {cfg.group_size} answers of {cfg.max_new_tokens} tokens"
    print(f"{cfg.model}, {cfg.tuning}, {cfg.problems or cfg.family}: {work}")
    print(f"on {gpus} GPU(s) of {memory:g} GiB; each holds\n")
    print(plan(cfg, memory, args.prompt_tokens, gpus).table())
    gpu = args.gpu or USUAL.get(args.preset)
    if gpu:
        write, learn = least_seconds(cfg, gpu, args.prompt_tokens, gpus)
        fast, slow = expected_seconds(cfg, gpu, args.prompt_tokens, gpus)
        print(
            f"a step with all answers of full length, on {gpu} ({GPUS[gpu][0]} TFLOP/s, "
            f"{GPUS[gpu][1]} GB/s by its data sheet):\nat least {write:.1f} s to write and "
            f"{learn:.1f} s to train; expected {fast:.0f} to {slow:.0f} s, if it reaches usual "
            "shares of those rates.\nThat is arithmetic and an assumption, not a measurement"
        )


def _sandbox(args: argparse.Namespace) -> None:
    from tqdm import tqdm

    from .lab import attacks
    from .sandbox import JAILS

    wanted = JAILS[:2] if args.jail == "auto" else (args.jail,)
    said = {jail: attacks.works(jail) for jail in wanted}
    for jail, why in said.items():
        print(f"{jail}: {why or 'works here'}")
    working = [jail for jail, why in said.items() if not why]
    if not working:
        raise UserError(" ".join(said.values()))
    if not args.attack:
        return
    n, found = len(attacks.attacks(args.only)), {}
    for jail in working:
        found[jail] = list(tqdm(attacks.run_attacks(jail, args.only), jail, n))
    print(attacks.table(found))
    bad = sorted({r.name for reports in found.values() for r in reports if r.faults})
    if bad:
        raise UserError(f"not contained: {', '.join(bad)}. Do not train with this sandbox.")
    print(f"{n} attacks contained in each of: {', '.join(found)}")


def _record(args: argparse.Namespace) -> None:
    from .lab.report import redraw
    from .stages.record import names, record

    for name in args.names or names():
        record(name)
    redraw()


def parser() -> argparse.ArgumentParser:
    """All verbs with their settings."""
    top = argparse.ArgumentParser(prog="python -m r1lite", description=__doc__.splitlines()[0])
    verbs = top.add_subparsers(dest="verb", required=True)

    run = verbs.add_parser("run", help="the main job: R1-Zero in miniature, table and figure")
    run.add_argument("--run-dir", default="runs/miniature", help="resumed if it exists")
    run.add_argument("--steps", type=int, default=25, help="RL steps")
    run.set_defaults(do=_run)

    zero = verbs.add_parser("zero", help="pure RL on a base; resumes if run_dir holds a checkpoint")
    _add_config(zero)
    zero.set_defaults(do=_zero)

    base = verbs.add_parser("base", help="make the tiny base from a seed (about 15 minutes)")
    base.add_argument("--steps", type=int, help="of 64 documents each; else the shipped number")
    base.add_argument("--seed", type=int, default=0)
    base.add_argument("--out", default="", help="folder; data/tiny-base if not given")
    base.add_argument("--no-reflection", action="store_true", help="leave out reflection markers")
    base.set_defaults(do=_base)

    gate = verbs.add_parser("gate", help="measure whether a base is fit for RL in every family")
    gate.add_argument("--model", default="data/tiny-base")
    gate.add_argument("--work", default="runs/gate", help="resumed if it exists")
    gate.add_argument("--log", default="", help="where the base was made: write its card, too")
    gate.set_defaults(do=_gate)

    evaluate = verbs.add_parser("evaluate", help="pass@1 and more on held-out problems")
    _add_config(evaluate)
    evaluate.add_argument(
        "--n-held-out", type=int, default=0, help="problems; 80, or all of --problems, if not given"
    )
    evaluate.add_argument("-k", type=int, default=16, help="samples a problem")
    evaluate.set_defaults(do=_evaluate)

    bench = verbs.add_parser("bench", help="time a step: its parts, its floor, other trainers")
    bench.add_argument(
        "what",
        nargs="?",
        choices=["step", "rewards", "gpu"],
        default="step",
        help="step if not given; gpu: larger models with random weights, into data/recorded/gpu",
    )
    bench.add_argument(
        "--shape", choices=["0.5B", "1.5B", "7B"], help="random weights of a Qwen2.5, with LoRA"
    )
    bench.add_argument("--model", default="", help="a folder; the shipped base if not given")
    bench.add_argument("--device", default="cpu", help="cpu, cuda or auto")
    bench.add_argument("--steps", type=int, default=6, help="timed steps; the first is left out")
    bench.add_argument("--against", choices=["trl", "generate"], help="the same work there")
    bench.add_argument(
        "--rounds", type=int, default=5, help="of rewards, --ladder and --against, interleaved"
    )
    bench.add_argument("--ladder", action="store_true", help="switch each saving off in turn")
    bench.add_argument("--growth", action="store_true", help="cost against size, with a figure")
    bench.add_argument("--to", type=float, default=0.0, help="seconds to this pass@1, and TRL's")
    bench.add_argument("--seeds", type=int, default=5, help="seeds of --to")
    bench.add_argument("--trl-rows", type=int, default=32, help="TRL's answers a pass in --to")
    bench.set_defaults(do=_bench)

    plan = verbs.add_parser("plan", help="will a run fit into a GPU? from a model's config alone")
    _add_config(plan)
    plan.add_argument("--memory", type=float, default=0.0, help="GiB; else the preset's")
    plan.add_argument(
        "--gpu",
        choices=["T4", "L4", "RTX 3090", "RTX 4090", "A100", "H100", "H200"],
        help="for the least time of a step; else the preset's",
    )
    plan.add_argument("--gpus", type=int, default=0, help="how many; else the preset's, or 1")
    plan.add_argument("--prompt-tokens", type=int, default=256, help="of the longest prompt")
    plan.set_defaults(do=_plan)

    sandbox = verbs.add_parser("sandbox", help="which jails work here; --attack tries to get out")
    sandbox.add_argument("--attack", action="store_true", help="run every program of data/attacks")
    sandbox.add_argument("--jail", default="auto", help="bubblewrap or namespaces; both if auto")
    sandbox.add_argument("--only", nargs="*", default=(), help="names of attacks; all if not given")
    sandbox.set_defaults(do=_sandbox)

    record = verbs.add_parser("record", help="run or resume the recorded runs, redraw the README")
    record.add_argument("names", nargs="*", help="all if none is given")
    record.set_defaults(do=_record)
    return top


def main(argv: list[str] | None = None) -> int:
    """Run one verb; a UserError becomes one line on stderr and exit status 2."""
    args = parser().parse_args(argv)
    try:
        args.do(args)
    except UserError as error:
        print(f"r1lite: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("r1lite: stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
