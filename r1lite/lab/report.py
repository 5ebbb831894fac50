"""Tables and figures made from run logs: `make run`'s ending and the README's middle."""

from pathlib import Path
from statistics import mean, median
from typing import Any

from ..config import preset
from ..policy.savings import SAVINGS
from ..runlog import atomic_path, read_json, read_jsonl
from ..stages.arms import ARMS, COMPARISONS, figures, margins, verdict
from ..stages.record import RECORDED, load_recorded
from ..stages.zero import run_zero
from .bench import RESULT
from .bench_gpu import table as gpu_table

README = Path("README.md")
# What the paper reports for R1-Zero: (row, first, last, where it stands)
PAPER = {
    "pass_at_1": ("15.6 %", "77.9 %", "AIME 2024 pass@1, v2 p4 (v1: 71.0 %)"),
    "mean_tokens": (
        "about 560",
        "about 9,600",
        "length on training problems, v1 Fig. 3, to step 8.4k",
    ),
    "cons_at_k": ("25.3 %", "86.7 %", "AIME cons@16, v1 Fig. 2 from step 200, v2 p4"),
    "reflection_per_answer": ("1", "5 to 7 times that", "count of ten words, v2 p38"),
}
ROWS = (
    ("pass_at_1", "pass@1, strict", "{:.1%}"),
    ("pass_at_1_lenient", "accuracy with tags ignored", "{:.1%}"),
    ("format", "in the format", "{:.1%}"),
    ("mean_tokens", "tokens per answer", "{:.0f}"),
    ("reflection_per_answer", "reflection words per answer", "{:.2f}"),
    ("reflection_per_1k_tokens", "reflection words per 1,000 tokens", "{:.1f}"),
    ("second_attempts", "attempts after the first, per answer", "{:.1f}"),
    ("readable", "readable: format, one language, nothing twice", "{:.1%}"),
    ("cons_at_k", "right by majority vote (cons@k)", "{:.1%}"),
)


def comparison_table(evaluations: list[dict[str, Any]]) -> str:
    """Markdown: the paper beside the mean over runs (and their range, if there are several)."""
    lines = [
        "| | paper: start | paper: end | here: base | here: after RL |",
        "|---|---|---|---|---|",
    ]
    for key, label, form in ROWS:
        first, last, _ = PAPER.get(key, ("not stated", "not stated", ""))
        cells = []
        for when in ("base", "final"):
            values = [run[when][key] for run in evaluations]
            cell = form.format(mean(values))
            if len(values) > 1 and when == "final":
                cell += f" ({form.format(min(values))} to {form.format(max(values))})"
            cells.append(cell)
        lines.append(f"| {label} | {first} | {last} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def save_curves(runs: list[dict[str, Any]], path: Path) -> None:
    """Draw the evaluations of runs (as plots.recorded gives them) into a file."""
    from .plots import eval_curves

    figure = eval_curves(runs, ("pass_at_1", "format", "mean_tokens"))
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def run_miniature(run_dir: Path, steps: int = 25) -> None:
    """R1-Zero on countdown in a few minutes; resumes if it was stopped, ends in a table."""
    cfg = preset("tiny", steps=steps, run_dir=str(run_dir), checkpoint_every=5)
    print(
        f"R1-Zero in miniature: {steps} steps of {cfg.n_problems} countdown problems x "
        f"{cfg.group_size} answers,\nrewarded by rule alone. Ctrl-C keeps what was learned; "
        "the same command goes on.\n",
        flush=True,
    )
    result, summary = run_zero(cfg, eval_every=steps, n_problems=40, k=8)
    if result.interrupted:
        raise KeyboardInterrupt
    evals = read_jsonl(run_dir / "evals.jsonl")
    save_curves([{"name": "this run", "evals": evals}], run_dir / "curve.png")
    print("\n" + comparison_table([summary["eval"]]))
    gain = evals[-1]["pass_at_1"] - evals[0]["pass_at_1"]
    print(
        f"\nheld-out pass@1 moved by {gain:+.3f} (95 % interval of each end: "
        f"+-{evals[0]['interval']:.3f} and +-{evals[-1]['interval']:.3f}).\n"
        f"figure: {run_dir / 'curve.png'}   answers: {run_dir / 'samples.jsonl'}\n"
        "next: make lab"
    )


def redraw() -> None:
    """Rewrite the README's figure and table from data/recorded/."""
    runs = load_recorded("zero_countdown_seed")
    if not runs:
        return
    path = RECORDED / "zero_countdown.png"
    save_curves([{"name": f"seed {r['run']['seed']}", "evals": r["evals"]} for r in runs], path)
    first = runs[0]["run"]
    final = first["eval"]["final"]
    caption = (
        f"{first['config']['steps']} policy updates on countdown, {len(runs)} seed(s); "
        f"{final['n_problems']} held-out problems, {final['k']} samples each, T 0.6, top-p 0.95; "
        f"{first['hardware']}, torch {first['versions']['torch']}. Range over seeds in brackets. "
        f"Paper: {'; '.join(where for _, _, where in PAPER.values())}."
    )
    table = comparison_table([run["run"]["eval"] for run in runs])
    _replace("recorded", f"![R1-Zero on countdown]({path.as_posix()})\n\n{table}\n\n{caption}")
    _replace("comparisons", comparisons_table())
    _replace("gpu", gpu_table())
    redraw_bench()


def comparisons_table() -> str:
    """Markdown: every comparison that has been run, its figure per seed and the verdict; below,
    what the likely cause is where the claim did not hold."""
    runs = {arm: [found["run"] for found in load_recorded(f"{arm}_seed")] for arm in ARMS}
    lines = ["| claim, written before its run | figure | seeds | holds |", "|---|---|---|---|"]
    causes = []
    for comparison in COMPARISONS:
        values = figures(comparison, runs)
        if not values:
            continue
        bound = " and ".join(
            f"{word} {limit:g}"
            for word, limit in (("at least", comparison.at_least), ("at most", comparison.at_most))
            if limit is not None
        )
        against = f" minus that of {ARMS[comparison.against].arm}" if comparison.against else ""
        what = f"{comparison.metric.replace('_', ' ')}, {comparison.of}{against}"
        shown = [f"{value:.3f}" if abs(value) < 10 else f"{value:.0f}" for value in values]
        for i, margin in enumerate(margins(comparison, runs)):
            shown[i] += f" +- {margin:.3f}"
        claim = f"{comparison.claim} ({ARMS[comparison.arm].arm})".replace("|", "\\|")
        holds = "yes" if verdict(comparison, values) else "**no**"
        what, seeds = f"{what}: {comparison.over} {bound}", ", ".join(shown)
        lines.append(f"| {claim} | {what} | {seeds} | {holds} |")
        if comparison.cause:
            causes.append(f"- *{comparison.claim}*: {comparison.cause}")
    return "\n".join([*lines, "", "Why not, as far as we can see:", "", *causes])


def redraw_bench() -> None:
    """Rewrite the README's table of speeds from data/recorded/bench.json."""
    if not RESULT.exists():
        return
    found = read_json(RESULT)
    lines = ["| | seconds a step | |", "|---|---|---|"]
    if "step" in found:
        step = found["step"]["figures"]
        lines += [
            f"| ours: rollout + train + rest | {step['rollout_s']:.2f} + {step['train_s']:.2f} + "
            f"{step['step_s'] - step['rollout_s'] - step['train_s']:.2f} = {step['step_s']:.2f} | "
            f"{step['rollout_tokens_per_s']:,.0f} tokens/s written, "
            f"{step['train_tokens_per_s']:,.0f} tokens/s trained |",
            f"| floor: the arithmetic alone, as PyTorch does it | {step['floor_usual_step_s']:.2f} "
            f"| a step takes {step['step_over_usual_floor']:.1f} times as long |",
            f"| floor with the faster of MKL and oneDNN | {step['floor_step_s']:.2f} | "
            f"{step['step_over_floor']:.1f} times |",
        ]
    if "trl" in found:
        trl = found["trl"]["figures"]
        for name, label in (
            ("ours", "ours, beside TRL"),
            ("trl_tuned", f"TRL {found['trl']['trl']}, its best batch ({trl['trl_rows']} rows)"),
            ("trl_default", "TRL, its defaults"),
        ):
            seconds = trl["median_step_s"][name]
            spread = trl["rounds"][name]
            lines.append(
                f"| {label} | {seconds:.2f} | {seconds / trl['median_step_s']['ours']:.1f} x; "
                f"{min(spread):.2f} to {max(spread):.2f} over {len(spread)} rounds |"
            )
    if "generate" in found:
        rates = found["generate"]["figures"]
        lines.append(
            f"| rollout against `generate` | | {rates['ours']:,.0f} and {rates['generate']:,.0f} "
            f"tokens/s: {rates['faster']:.1f} x |"
        )
    first = next(iter(found.values()))
    cfg = first["config"]
    caption = (
        f"{cfg['n_problems']} problems x {cfg['group_size']} answers of at most "
        f"{cfg['max_new_tokens']} tokens on the shipped base; {first['hardware']}, torch "
        f"{first['versions']['torch']}; medians, interleaved (`python -m r1lite bench`)."
    )
    blocks = ["\n".join(lines), caption]
    for part, says in (("to", _times_to), ("ladder", _ladder), ("tried", _tried)):
        if part in found:
            elsewhere = found[part]["hardware"] != first["hardware"]
            where = f" (On {found[part]['hardware']}.)" if elsewhere else ""
            blocks.append(says(found[part]["figures"]) + where)
    if "growth" in found:
        picture = RESULT.with_name("bench_growth.png").as_posix()
        blocks.append(f"![cost as work grows]({picture})")
    _replace("bench", "\n\n".join(blocks))


def _times_to(found: dict[str, Any]) -> str:
    """A sentence: training seconds to a held-out pass@1, over seeds."""
    parts = []
    for who, name in (("ours", "ours"), ("trl", "TRL, tuned")):
        seconds = sorted(run[f"{who}_s"] for run in found["runs"])
        parts.append(f"{name} {median(seconds):.0f} s ({seconds[0]:.0f} to {seconds[-1]:.0f})")
    return (
        f"Training time from the base to {found['threshold']:.2f} held-out pass@1, median and "
        f"range of {len(found['runs'])} seeds, evaluations apart: {'; '.join(parts)}."
    )


def _ladder(found: dict[str, dict[str, float]]) -> str:
    """Markdown: what a step takes without each saving."""
    lines = ["| without | seconds a step | more |", "|---|---|---|"]
    for name, row in found.items():
        label = SAVINGS.get(name, name)
        lines.append(f"| {label} | {row['step_s']:.2f} | {row['saves_s']:+.2f} |")
    return "\n".join(lines)


def _tried(found: dict[str, dict[str, float]]) -> str:
    """A sentence: what was tried and left out."""
    parts = [
        f"{name} ({row['with_s']:.2f} s instead of {row['without_s']:.2f}, "
        f"{row['first_s']:.1f} s the first time)"
        for name, row in found.items()
    ]
    return f"Tried and left out (`python tests/tried.py`): {'; '.join(parts)}."


def _replace(name: str, block: str) -> None:
    """Put a block between the README's two markers of this name."""
    start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
    before, rest = README.read_text(encoding="utf-8").split(start)
    after = rest.split(end)[1]
    with atomic_path(README) as temporary:
        temporary.write_text(f"{before}{start}\n{block}\n{end}{after}", encoding="utf-8")
