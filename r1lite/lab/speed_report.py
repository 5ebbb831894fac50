"""The README's tables of speed, made from data/recorded/bench.json and data/recorded/gpu."""

from collections.abc import Mapping
from typing import Any

from ..config import repo_path
from ..fast.optimizations import OPTIMIZATIONS
from ..runlog import markdown_table, read_json
from .bench import RESULT

GPU_RECORDS = repo_path("data/recorded/gpu")


def speed_blocks() -> dict[str, str]:
    """README marker -> what stands between its two ends."""
    blocks = {"gpu": _gpu()}
    if RESULT.exists():
        blocks["bench"] = bench_block(read_json(RESULT))
    return blocks


def bench_block(kept: Mapping[str, Any]) -> str:
    """Markdown of what bench.json holds: a part for each comparison that was made."""
    makers = {"step": _step, "floor": _floor, "trl": _trl, "generate": _generate}
    rows = [row for part, make in makers.items() if part in kept for row in make(kept[part])]
    first = next(iter(kept.values()))
    cfg = first["config"]
    caption = (
        f"{cfg['n_problems']} problems x {cfg['group_size']} answers of at most "
        f"{cfg['max_new_tokens']} tokens on the shipped base; {_where(first)}; medians, "
        "interleaved (`python -m r1lite bench`, `python -m tests.speed`)."
    )
    blocks = [markdown_table(["", "seconds a step", ""], rows), caption]
    if "ladder" in kept:
        blocks.append(_ladder(kept["ladder"]["figures"]))
    return "\n\n".join(blocks)


def _where(part: Mapping[str, Any]) -> str:
    return f"{part['hardware']}, torch {part['versions']['torch']}"


def _step(part: Mapping[str, Any]) -> list[list[str]]:
    step = part["figures"]
    rest = step["step_s"] - step["rollout_s"] - step["train_s"]
    sums = f"{step['rollout_s']:.2f} + {step['train_s']:.2f} + {rest:.2f} = {step['step_s']:.2f}"
    rates = (
        f"{step['rollout_tokens_per_s']:,.0f} tokens/s sampled, "
        f"{step['train_tokens_per_s']:,.0f} tokens/s trained"
    )
    rows = [["ours: rollout + train + rest", sums, rates]]
    if plain := step.get("plain_step_s"):
        ratio = f"{plain / step['step_s']:.1f} times as long"
        rows.append(["ours without `fast/`", f"{plain:.2f}", ratio])
    return rows


def _floor(part: Mapping[str, Any]) -> list[list[str]]:
    floor = part["figures"]
    took = f"the step beside it ({floor['step_s']:.2f}) takes {floor['step_over_floor']:.1f} times"
    return [["floor: the products alone", f"{floor['floor_step_s']:.2f}", took]]


def _trl(part: Mapping[str, Any]) -> list[list[str]]:
    trl = part["figures"]
    labels = {
        "ours": "ours, beside TRL",
        "ours_plain": "ours without `fast/`, beside TRL",
        "trl_tuned": f"TRL {part['trl']}, its best batch ({trl['trl_rows']} rows)",
        "trl_default": "TRL, its defaults",
    }
    rows = []
    for name, label in labels.items():
        if name in trl["median_step_s"]:
            seconds, spread = trl["median_step_s"][name], trl["rounds"][name]
            ratio = f"{seconds / trl['median_step_s']['ours']:.1f} x; "
            over = f"{min(spread):.2f} to {max(spread):.2f} over {len(spread)} rounds"
            rows.append([label, f"{seconds:.2f}", ratio + over])
    return rows


def _generate(part: Mapping[str, Any]) -> list[list[str]]:
    rates = part["figures"]
    both = f"{rates['ours']:,.0f} and {rates['generate']:,.0f} tokens/s: {rates['faster']:.1f} x"
    return [["rollout against `generate`", "", both]]


def _ladder(steps: Mapping[str, Mapping[str, float]]) -> str:
    """Markdown: what a step takes without each optimization."""
    rows = [
        [OPTIMIZATIONS.get(name, name), f"{row['step_s']:.2f}", f"{row['ratio']:.2f}"]
        for name, row in steps.items()
    ]
    return markdown_table(["without", "seconds a step", "median of pairs"], rows)


def _gpu() -> str:
    """What a GPU gave, a line for each record; a sentence where there is none."""
    records = [read_json(path) for path in sorted(GPU_RECORDS.glob("*_*_*.json"))]
    measured = [record for record in records if "figures" in record]
    if not measured:
        return "Not measured yet: no GPU was at hand. `python -m tests.speed gpu` measures."
    rows = [
        [
            f"{record['model']}, {record['config']['tuning']}, {record['config']['sampler']}",
            f"{record['figures']['step_s']:.2f}",
            f"{record['figures']['peak_gib']:.1f}",
            f"{record['figures']['plan_off']:+.1%}",
        ]
        for record in measured
    ]
    table = markdown_table(["model, adapter, sampler", "step, s", "peak, GiB", "plan off by"], rows)
    return f"{table}\n\nRandom weights; {_where(measured[0])}."
