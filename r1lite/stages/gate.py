"""The gate: a base ships only if RL has something to select, in every family."""

import json
from pathlib import Path
from typing import Any

from ..config import RunConfig, preset
from ..evaluation import grade
from ..learn import train
from ..policy import Policy, load_policy
from ..runlog import read_json, write_json
from ..world import FAMILIES
from .ended import unless_interrupted
from .held_out import held_out, sample_for_eval
from .zero import search_report

# (figure, lowest, highest): at temperature 1, on held-out countdown problems
SEARCH_LIMITS = (
    ("sums_right", 0.99, 1.0),
    ("tries_valid", 0.97, 1.0),
    ("yes_when_hit", 0.95, 1.0),
    ("yes_when_miss", 0.0, 0.02),
)
PASS_LIMITS = (0.05, 0.40)
GAIN_STEPS, LEAST_GAIN = 30, 0.10


def base_rates(policy: Policy, family: str, cfg: RunConfig, k: int = 16) -> dict[str, Any]:
    """Held-out rates of a policy in a family at temperature 1."""
    problems = held_out(family, 80)
    groups = sample_for_eval(policy, cfg, problems, k=k, temperature=1.0, top_p=1.0)
    return grade(groups, fmt=cfg.template).as_dict()


def gate_config(model: str, family: str, work: Path) -> RunConfig:
    """The 30-step run that each family has to gain from."""
    return preset(
        "tiny",
        model=model,
        family=family,
        steps=GAIN_STEPS,
        run_dir=str(work / family),
        checkpoint_every=10,
    )


def run_gate(
    model: str, work: Path | str = "runs/gate", families=tuple(FAMILIES)
) -> dict[str, Any]:
    """Measure everything the gate asks; resumes by itself. Returns the figures and the verdicts."""
    work = Path(work)
    policy = load_policy(model)
    figures: dict[str, Any] = {"model": model, "search": search_report(policy), "families": {}}
    for family in families:
        cfg, saved = gate_config(model, family, work), work / f"{family}.json"
        if saved.exists():
            figures["families"][family] = read_json(saved)
            continue
        base = base_rates(policy, family, cfg)
        result = unless_interrupted(train(cfg))  # a shorter run is no verdict
        row = {"base": base, "after": base_rates(result.policy, family, cfg), "steps": GAIN_STEPS}
        write_json(saved, row)
        figures["families"][family] = row
        print(json.dumps({family: verdict_of_family(row)}), flush=True)
    figures["verdicts"] = verdicts(figures)
    write_json(work / "gate.json", figures)
    return figures


def verdict_of_family(row: dict[str, Any]) -> dict[str, Any]:
    """pass@1 before and after, and whether both limits hold."""
    before, after = row["base"]["pass_at_1"], row["after"]["pass_at_1"]
    return {
        "base": round(before, 3),
        "after": round(after, 3),
        "base_in_band": PASS_LIMITS[0] <= before <= PASS_LIMITS[1],
        "gains": after - before >= LEAST_GAIN,
    }


def verdicts(figures: dict[str, Any]) -> dict[str, bool]:
    """One True or False for each line of the gate."""
    lines = {name: low <= figures["search"][name] <= high for name, low, high in SEARCH_LIMITS}
    for family, row in figures["families"].items():
        verdict = verdict_of_family(row)
        lines[f"{family} base in band"] = verdict["base_in_band"]
        lines[f"{family} gains"] = verdict["gains"]
    return lines
