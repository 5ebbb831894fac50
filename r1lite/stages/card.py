"""The model card of a base, written from its training log and its gate, never by hand."""

from pathlib import Path
from typing import Any

from ..policy import load_policy
from ..runlog import atomic_path, describe_run, markdown_table, read_jsonl
from .base import DOCUMENTS_PER_STEP
from .documents import SHARES
from .gate import verdicts

FAMILY_HEADS = [
    "family", "pass@1", "+-", "tags ignored", "format", "tokens", "pass@1 after 30 steps", "+-",
]  # fmt: skip


def write_card(folder: Path | str, work: Path | str, figures: dict[str, Any]) -> Path:
    """Write folder/README.md from work/metrics.jsonl (training) and what run_gate returned."""
    metrics = read_jsonl(Path(work) / "metrics.jsonl")
    with atomic_path(Path(folder) / "README.md") as temporary:
        temporary.write_text(_card(Path(folder), figures, metrics), encoding="utf-8")
    return Path(folder) / "README.md"


def _card(folder: Path, figures: dict[str, Any], metrics: list[dict[str, Any]]) -> str:
    policy = load_policy(str(folder), device="cpu")
    n_parameters = sum(p.numel() for p in policy.model.parameters())
    last, run = metrics[-1], describe_run()
    tokens = sum(row["tokens_trained"] for row in metrics)
    minutes = sum(row["seconds"]["step"] for row in metrics) / 60
    shares = ", ".join(f"{kind} {share} %" for kind, share in SHARES.items())
    parts = [
        f"# {folder.name}",
        f"A Qwen2 of {n_parameters:,} parameters and {len(policy.tokenizer)} words, trained from "
        "scratch on documents of the tiny world. It is a *base*: it has read guesses, searches, "
        "give-ups and missing tags in two languages, and nothing has rewarded it yet.",
        f"- corpus: {last['step'] * DOCUMENTS_PER_STEP:,} documents, {tokens:,} tokens, "
        f"each read once; by kind: {shares}\n"
        f"- training: {last['step']:,} steps of {DOCUMENTS_PER_STEP} documents, "
        f"{minutes:.0f} minutes beside other work on {run['hardware']}, "
        f"torch {run['versions']['torch']}; last loss {last['loss']:.3f} nats per token\n"
        "- it knows no words but its own: other words become `<unk>`",
        "## What its searches are worth (temperature 1, held-out countdown problems)",
        markdown_table(
            ["", ""],
            [(n, v if isinstance(v, int) else f"{v:.3f}") for n, v in figures["search"].items()],
        ),
        "## Base rates per family (temperature 1, held-out), and after 30 steps of RL",
        markdown_table(FAMILY_HEADS, [_family_row(*item) for item in figures["families"].items()]),
        "## The gate",
        markdown_table(
            ["line", "holds"],
            [(name, "yes" if holds else "**no**") for name, holds in verdicts(figures).items()],
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _family_row(family: str, row: dict[str, Any]) -> list[str]:
    base, after = row["base"], row["after"]
    rates = [base[n] for n in ("pass_at_1", "interval", "pass_at_1_lenient", "format")]
    ends = [after["pass_at_1"], after["interval"]]
    tokens = f"{base['mean_tokens']:.0f}"
    return [family, *(f"{x:.3f}" for x in rates), tokens, *(f"{x:.3f}" for x in ends)]
