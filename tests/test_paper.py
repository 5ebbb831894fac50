"""The paper's figures: every row with its source and version, and the two versions told apart."""

import csv
import re
from pathlib import Path

import pytest

PAPER = Path(__file__).resolve().parents[1] / "data" / "paper"
FILES = sorted(PAPER.glob("*.csv"))


def rows(name: str) -> list[dict[str, str]]:
    with (PAPER / name).open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_row_names_its_source_and_is_whole(path):
    found = rows(path.name)
    assert len(found) >= 3 and path.name in (PAPER / "README.md").read_text(encoding="utf-8")
    for row in found:
        assert None not in row and None not in row.values()
        assert re.match(r"arXiv 2501\.12948 v[12], .*(Table|Figure|p)\s?\d", row["source"])
        numbers = [v for k, v in row.items() if k not in ("source", "version")]
        assert sum(bool(re.fullmatch(r"-?[\d.]+", v)) for v in numbers) >= 1


def test_the_two_versions_are_told_apart():
    aime = {
        row["version"]: float(row["value"])
        for row in rows("r1_zero_results.csv")
        if row["benchmark"] == "AIME 2024" and row["metric"] == "pass@1"
    }
    assert aime == {"v1": 71.0, "v2": 77.9}
    for row in rows("r1_zero_results.csv"):
        assert f" {row['version']}," in row["source"]


def test_the_curves_run_in_order_from_the_first_point_to_the_last():
    aime, length = rows("r1_zero_aime.csv"), rows("r1_zero_length.csv")
    for curve in (aime, length):
        steps = [int(row["step"]) for row in curve]
        assert steps == sorted(set(steps)) and steps[-1] == 8400
    assert (aime[0]["step"], float(aime[0]["pass_at_1"])) == ("200", 0.156)
    assert float(aime[-1]["pass_at_1"]) == 0.71
    for row in aime:
        assert 0 < float(row["pass_at_1"]) < float(row["cons_at_16"]) < 1
    assert 15 < float(length[-1]["mean_tokens"]) / float(length[0]["mean_tokens"]) < 19


def test_distillation_beats_rl_in_the_papers_table():
    table = {
        row["model"]: float(row["aime_2024_pass_at_1"]) for row in rows("distillation_or_rl.csv")
    }
    assert table["R1-Distill-Qwen-32B"] == 72.6
    distilled = {row["base"]: row for row in rows("distilled.csv")}
    assert float(distilled["Qwen2.5-32B"]["aime_2024_pass_at_1"]) == 72.6
    stages = {row["benchmark"]: row for row in rows("stages.csv")}
    assert stages["AIME 2024"]["r1_zero"] == "77.9" and stages["AIME 2024"]["r1"] == "79.8"
