"""Figures and tables of notebooks: what they refuse, what they draw outside a notebook."""

import matplotlib.pyplot as plt
import pytest

from r1lite.lab import plots
from r1lite.records import StepLog, UserError
from r1lite.runlog import append_jsonl

FIELDS = (
    *("loss", "grad_norm", "reward", "accuracy", "format", "length", "truncated"),
    *("kl", "clip_fraction", "informative_groups", "sampler_gap", "entropy"),
)


def logs(n):
    return [StepLog(step=i + 1, **dict.fromkeys(FIELDS, i / 10)) for i in range(n)]


def test_strip_names_the_stages_it_knows():
    plots.strip(["rewards", "groups of answers"])
    with pytest.raises(UserError, match="'advantage' is no stage.*advantages"):
        plots.strip(here="advantage")


def test_curves_read_logs_dicts_and_files_alike(tmp_path):
    rows = [{"step": log.step, "reward": log.reward} for log in logs(3)]
    for row in rows:
        append_jsonl(tmp_path / "metrics.jsonl", row)
    for source in (logs(3), rows, tmp_path / "metrics.jsonl"):
        figure = plots.curves(source, ("reward",), null={"reward": 0.05})
        line, null = figure.axes[0].lines
        assert list(line.get_ydata()) == pytest.approx([0.0, 0.1, 0.2])
        assert set(null.get_ydata()) == {0.05}


def test_the_band_of_a_rate_stays_between_0_and_1():
    figure = plots.curves(logs(10), ("accuracy",), n_problems=4)
    band = figure.axes[0].collections[0].get_paths()[0].vertices[:, 1]
    assert band.min() >= 0 and band.max() <= 1


def test_live_curves_outside_a_notebook_keep_the_logs_and_draw_nothing(capsys):
    live = plots.LiveCurves()
    for log in logs(2):
        live(log)
    assert len(live.logs) == 2 and capsys.readouterr().out == "" and not plt.get_fignums()


def test_a_missing_recording_is_said_in_words(capsys):
    assert plots.recorded("no_such_run") == []
    assert "make record" in capsys.readouterr().out


def test_table_escapes_what_markdown_would_eat():
    text = plots.table([{"a": "<think> 2 * 3 | x", "b": 0.12345}]).data
    assert text.splitlines()[-1] == "| &lt;think> 2 \\* 3 \\| x | 0.123 |"
