"""python -m tests.speed WHAT: a step beside others; results go to data/recorded/bench.json.

floor     what the machine allows          generate  transformers' generate
trl       TRL's trainer, tuned and default  to        seconds to a pass@1, ours and TRL's
growth    cost against size, with a figure  rewards   answers per second of each reward
gpu       larger models with random weights, into data/recorded/gpu
"""

import argparse
import contextlib
import json
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from r1lite.config import RunConfig
from r1lite.lab.bench import RESULT, bench_config, keep
from r1lite.records import UserError

from . import gpu, growth, rewards, step


def parser() -> argparse.ArgumentParser:
    """The flags of all comparisons."""
    top = argparse.ArgumentParser(
        prog="python -m tests.speed", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    top.add_argument("what", choices=sorted(WHAT))
    top.add_argument("--shape", choices=gpu.SHAPES, help="random weights of a Qwen2.5, with LoRA")
    top.add_argument("--model", default="", help="a folder; the shipped base if not given")
    top.add_argument("--device", default="cpu", help="cpu, cuda or auto")
    top.add_argument("--steps", type=int, default=6, help="timed steps; the first is left out")
    top.add_argument("--rounds", type=int, default=5, help="interleaved repetitions")
    top.add_argument("--threshold", type=float, default=0.6, help="of `to`")
    top.add_argument("--seeds", type=int, default=5, help="of `to`")
    top.add_argument("--trl-rows", type=int, default=32, help="TRL's answers per pass, of `to`")
    return top


def _trl(cfg: RunConfig, args: argparse.Namespace) -> Any:
    from .trl import against_trl

    return against_trl(cfg, rounds=args.rounds)


def _to(cfg: RunConfig, args: argparse.Namespace) -> Any:
    from .trl import seconds_to

    runs = [
        seconds_to(cfg.change(seed=seed, steps=60), args.threshold, args.trl_rows)
        for seed in range(args.seeds)
    ]
    return {"threshold": args.threshold, "runs": runs}


def _growth(cfg: RunConfig, args: argparse.Namespace) -> Any:
    points = growth.growth()
    growth.growth_figure(points, RESULT.with_name("bench_growth.png"))
    return points


WHAT: dict[str, Callable[[RunConfig, argparse.Namespace], Any]] = {
    "floor": lambda cfg, args: step.against_floor(cfg),
    "generate": lambda cfg, args: step.against_generate(cfg, rounds=args.rounds),
    "rewards": lambda cfg, args: rewards.bench_rewards(rounds=args.rounds),
    "trl": _trl,
    "to": _to,
    "growth": _growth,
    "gpu": lambda cfg, args: gpu.bench_gpu(gpu.gpu_config(steps=args.steps)),
}


def main(argv: list[str] | None = None) -> int:
    """Run one comparison; a UserError becomes one line on stderr and exit status 2."""
    args = parser().parse_args(argv)
    try:
        with contextlib.ExitStack() as stack:
            changes: dict[str, Any] = {"steps": args.steps, "device": args.device}
            path = RESULT
            if args.shape:
                cfg = stack.enter_context(gpu.random_work(args.shape, **changes))
                path = gpu.RECORDS / f"{args.shape}_compared.json"
            else:
                cfg = bench_config(**changes | ({"model": args.model} if args.model else {}))
            result = WHAT[args.what](cfg, args)
            facts = {"trl": version("trl")} if args.what == "trl" else {}
            if args.what != "gpu":  # which keeps a file for each case
                keep(args.what, result, cfg, path, **facts)
    except UserError as error:
        print(f"tests.speed: {error}", file=sys.stderr)
        return 2
    print(result if isinstance(result, str) else json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
