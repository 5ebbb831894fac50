"""Tables and figures made from run logs: `make run`'s ending and the README's middle."""

from pathlib import Path
from statistics import mean
from typing import Any

from ..config import RunConfig, preset, repo_path
from ..runlog import atomic_path, markdown_table, read_jsonl
from ..stages.arms import ARMS, COMPARISONS, Comparison, arm_values, margins, verdict
from ..stages.ended import unless_interrupted
from ..stages.record import RECORDED, load_recorded
from ..stages.zero import run_zero
from .plan import GPUS, USUAL, expected_seconds, least_seconds, plan
from .speed_report import speed_blocks

README = repo_path("README.md")
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
    rows = []
    for key, label, form in ROWS:
        first, last, _ = PAPER.get(key, ("not stated", "not stated", ""))
        base, final = ([run[when][key] for run in evaluations] for when in ("base", "final"))
        ends = form.format(mean(final))
        if len(final) > 1:
            ends += f" ({form.format(min(final))} to {form.format(max(final))})"
        rows.append([label, first, last, form.format(mean(base)), ends])
    heads = ["", "paper: start", "paper: end", "here: base", "here: after RL"]
    return markdown_table(heads, rows)


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
    unless_interrupted(result)
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
    picture = f"![R1-Zero on countdown]({path.relative_to(README.parent).as_posix()})"
    _replace("recorded", f"{picture}\n\n{table}\n\n{caption}")
    _replace("comparisons", comparisons_table())
    for name, block in speed_blocks().items():
        _replace(name, block)


def comparisons_table() -> str:
    """Markdown: every comparison that has been run, its figure per seed and the verdict; below,
    what the likely cause is where the claim did not hold."""
    runs = {arm: [run["run"] for run in load_recorded(f"{arm}_seed")] for arm in ARMS}
    rows, causes = [], []
    for comparison in COMPARISONS:
        if not (values := arm_values(comparison, runs)):
            continue
        rows.append(_comparison_row(comparison, values, margins(comparison, runs)))
        if comparison.cause:
            causes.append(f"- *{comparison.claim}*: {comparison.cause}")
    table = markdown_table(["claim, written before its run", "figure", "seeds", "holds"], rows)
    return "\n".join([table, "", "Why not, as far as we can see:", "", *causes])


def _comparison_row(
    comparison: Comparison, values: list[float], half_widths: list[float]
) -> list[str]:
    bounds = (("at least", comparison.at_least), ("at most", comparison.at_most))
    bound = " and ".join(f"{word} {limit:g}" for word, limit in bounds if limit is not None)
    against = f" minus that of {ARMS[comparison.against].label}" if comparison.against else ""
    what = f"{comparison.metric.replace('_', ' ')}, {comparison.of}{against}"
    shown = [f"{value:.3f}" if abs(value) < 10 else f"{value:.0f}" for value in values]
    for i, margin in enumerate(half_widths):
        shown[i] += f" +- {margin:.3f}"
    claim = f"{comparison.claim} ({ARMS[comparison.arm].label})"
    holds = "yes" if verdict(comparison, values) else "**no**"
    return [claim, f"{what}: {comparison.over} {bound}", ", ".join(shown), holds]


def _replace(name: str, block: str) -> None:
    """Put a block between the README's two markers of this name."""
    start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
    before, rest = README.read_text(encoding="utf-8").split(start)
    after = rest.split(end)[1]
    with atomic_path(README) as temporary:
        temporary.write_text(f"{before}{start}\n{block}\n{end}{after}", encoding="utf-8")


def describe_plan(
    cfg: RunConfig, name: str, memory: float, gpu: str, gpus: int, prompt_tokens: int
) -> str:
    """What `python -m r1lite plan` prints: the work, memory by part, times if a GPU is known.

    name  of the preset"""
    work = f"{cfg.n_problems} problems x {cfg.group_size} answers of {cfg.max_new_tokens} tokens"
    lines = [
        f"{cfg.model}, {cfg.tuning}, {cfg.problems or cfg.family}: {work}",
        f"on {gpus} GPU(s) of {memory:g} GiB; each holds\n",
        plan(cfg, memory, prompt_tokens, gpus).table(),
    ]
    if gpu := gpu or USUAL.get(name, ""):
        write, learn = least_seconds(cfg, gpu, prompt_tokens, gpus)
        fast, slow = expected_seconds(cfg, gpu, prompt_tokens, gpus)
        lines.append(
            f"a step with all answers of full length, on {gpu} ({GPUS[gpu][0]} TFLOP/s, "
            f"{GPUS[gpu][1]} GB/s by its data sheet):\nat least {write:.1f} s to write and "
            f"{learn:.1f} s to train; expected {fast:.0f} to {slow:.0f} s, if it reaches usual "
            "shares of those rates.\nThat is arithmetic and an assumption, not a measurement"
        )
    return "\n".join(lines)
