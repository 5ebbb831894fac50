"""Figures for notebooks: the loop as a strip, curves of a run, curves that grow while it trains."""

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..records import StepLog, UserError
from ..runlog import markdown_table, read_jsonl
from ..stages.record import load_recorded

LOOP = (
    *("problems", "prompts", "groups of\nanswers", "rewards", "advantages"),
    *("batch", "loss", "step", "log"),
)
R1 = (
    *("base", "R1-Zero\n(pure RL)", "cold start\n(SFT)", "reasoning\nRL"),
    *("rejection\nsampling, SFT", "RL for all\nscenarios", "distillation"),
)
INK, BLUE, RED, GREY, SAND = "#222222", "#1f6fb4", "#c0392b", "#8a8a8a", "#f4e3c1"
TITLES = {
    "reward": "reward per answer",
    "accuracy": "right answers, strict",
    "format": "answers in the format",
    "length": "tokens per answer",
    "informative_groups": "informative groups",
    "truncated": "answers cut off",
    "entropy": "entropy per token (nats)",
    "grad_norm": "gradient norm",
    "clip_fraction": "tokens cut by the clip",
    "pass_at_1": "pass@1, strict",
    "pass_at_1_lenient": "pass@1, lenient",
    "mean_tokens": "tokens per answer",
    "reflection_per_answer": "reflection per answer",
    "reflection_per_1k_tokens": "reflection per 1,000 tokens",
}
PER_GROUP = ("accuracy", "format")  # rates between 0 and 1, for which an interval can be drawn

Logs = Sequence[StepLog] | Sequence[Mapping[str, Any]] | Path | str


def strip(here: str | Sequence[str] = (), *, stages: Sequence[str] = LOOP) -> Figure:
    """Draw the loop (or R1's stages) as a row of boxes, with the ones named in `here` filled.

    here  names as in LOOP or R1, line breaks written as spaces: "groups of answers"
    """
    wanted = [here] if isinstance(here, str) else list(here)
    plain = [stage.replace("\n", " ") for stage in stages]
    unknown = [name for name in wanted if name not in plain]
    if unknown:
        raise UserError(f"{unknown[0]!r} is no stage: it must be one of {', '.join(plain)}.")
    figure, axes = plt.subplots(figsize=(11, 0.9))
    centred = {"ha": "center", "va": "center", "fontsize": 8}
    for i, stage in enumerate(stages):
        marked = plain[i] in wanted
        weight, fill, edge = ("bold", SAND, INK) if marked else ("normal", "white", GREY)
        box = {"boxstyle": "round,pad=0.45", "facecolor": fill, "edgecolor": edge}
        axes.annotate(stage, (i, 0), color=INK, fontweight=weight, bbox=box, **centred)
        if i:
            axes.annotate("→", (i - 0.5, 0), color=GREY, zorder=0, **centred)
    axes.set(xlim=(-0.6, len(stages) - 0.4), ylim=(-0.5, 0.5))
    axes.axis("off")
    return finish(figure)


def finish(figure: Figure) -> Figure:
    """Close the figure so that a notebook shows it once, as the value of its cell."""
    figure.tight_layout()
    plt.close(figure)
    return figure


def rows_of(logs: Logs) -> list[dict[str, Any]]:
    """The rows of a run: a list of StepLog, a list of dicts, or a metrics.jsonl."""
    if isinstance(logs, (str, Path)):
        return read_jsonl(logs)
    return [dict(log) for log in logs]


def smooth(values: Sequence[float], window: int) -> list[float]:
    """Mean over the last `window` values up to each place (fewer at the start).

    >>> smooth([1.0, 3.0, 5.0], 2)
    [1.0, 2.0, 4.0]
    """
    return pandas.Series(values).rolling(window, min_periods=1).mean().tolist()


def curve(
    axes: Axes,
    logs: Logs,
    name: str,
    *,
    null: float | None = None,
    n_problems: int | None = None,
    window: int = 1,
    color: str = BLUE,
    label: str | None = None,
) -> None:
    """Draw one field of the step logs into axes.

    null        a dashed line: what the untrained model does
    n_problems  problems per step; draws a 95 % band for rates. Answers to one problem go
                together, so the band counts problems: 1.96 * sqrt(p (1 - p) / n_problems),
                which is too wide rather than too narrow
    window      steps that a running mean covers; the band narrows with it
    """
    rows = rows_of(logs)
    steps, values = [row["step"] for row in rows], [row[name] for row in rows]
    means = np.array(smooth(values, window))
    axes.plot(steps, means, color=color, lw=1.6, label=label)
    if n_problems and name in PER_GROUP:
        n_read = n_problems * np.arange(1, len(means) + 1).clip(max=window)
        half = 1.96 * np.sqrt((means * (1 - means)).clip(0) / n_read)
        low, high = (means - half).clip(0), (means + half).clip(max=1)
        axes.fill_between(steps, low, high, color=color, alpha=0.15, lw=0)
    if null is not None:
        axes.axhline(null, color=GREY, ls="--", lw=1)
    _tidy(axes, name, rate=name in PER_GROUP)


def _tidy(axes: Axes, name: str, *, rate: bool) -> None:
    axes.set_title(TITLES.get(name, name), fontsize=10)
    axes.set_xlabel("step", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.set_ylim((0, 1) if rate else (0, None))


def curves(
    logs: Logs,
    names: Sequence[str] = ("reward", "accuracy", "format", "length"),
    *,
    null: Mapping[str, float] | None = None,
    n_problems: int | None = None,
    window: int = 1,
) -> Figure:
    """One small figure per field, side by side; null as in `curve`, by field name."""
    figure, row = plt.subplots(1, len(names), figsize=(2.6 * len(names), 2.4), squeeze=False)
    for axes, name in zip(row[0], names):
        curve(axes, logs, name, null=(null or {}).get(name), n_problems=n_problems, window=window)
    return finish(figure)


class LiveCurves:
    """Curves that grow while a run trains: train(cfg, on_step=LiveCurves(...)).

    null   field -> value of the untrained model, a dashed line; if not given, the first step,
           whose answers the untrained model wrote
    every  steps between two drawings
    Outside a notebook it keeps the logs and draws nothing.
    """

    def __init__(
        self,
        names: Sequence[str] = ("reward", "accuracy", "format", "length"),
        *,
        null: Mapping[str, float] | None = None,
        n_problems: int | None = None,
        every: int = 1,
    ):
        self.names, self.null, self.n_problems, self.every = names, null, n_problems, every
        self.logs: list[StepLog] = []
        self._handle: Any = None

    def __call__(self, log: StepLog) -> None:
        self.logs.append(log)
        if len(self.logs) % self.every == 0:
            self.draw()

    def draw(self) -> None:
        """Draw what there is, in place of the drawing before."""
        if not _in_notebook():
            return
        from IPython.display import display

        null = self.logs[0] if self.null is None else self.null
        figure = curves(self.logs, self.names, null=null, n_problems=self.n_problems)
        if self._handle is None:
            self._handle = display(figure, display_id=True)
        else:
            self._handle.update(figure)


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")  # a notebook has imported it
    return ipython is not None and ipython.get_ipython() is not None


def recorded(prefix: str) -> list[dict[str, Any]]:
    """Every finished recorded run whose name starts so; if there is none, says how to make it."""
    runs = load_recorded(prefix)
    if not runs:
        print(
            f"no finished run {prefix}* in data/recorded: `make record` makes the recorded runs "
            "in three to four hours. Everything else in this notebook works without them."
        )
    return runs


def eval_curves(
    runs: Sequence[Mapping[str, Any]],
    names: Sequence[str] = ("pass_at_1", "pass_at_1_lenient", "format", "mean_tokens"),
) -> Figure:
    """Held-out evaluations of recorded runs, one line a run; the base is the dashed line.

    runs  as `recorded` gives them
    The band is the 95 % interval of pass_at_1 that the run recorded.
    """
    figure, row = plt.subplots(1, len(names), figsize=(2.7 * len(names), 2.6), squeeze=False)
    colors = plt.get_cmap("tab10").colors
    for run, color in zip(runs, colors):
        evals = pandas.DataFrame(run["evals"])
        for axes, name in zip(row[0], names):
            axes.plot(evals.step, evals[name], color=color, marker=".", lw=1.6, label=run["name"])
            axes.axhline(evals[name][0], color=color, ls="--", lw=1, alpha=0.7)
            if name == "pass_at_1":
                low, high = evals[name] - evals.interval, evals[name] + evals.interval
                axes.fill_between(evals.step, low, high, color=color, alpha=0.15, lw=0)
    for axes, name in zip(row[0], names):
        _tidy(axes, name, rate=name in ("pass_at_1", "pass_at_1_lenient", "format", "truncated"))
    if len(runs) > 1:
        row[0][0].legend(frameon=False, fontsize=8, loc="lower right")
    return finish(figure)


def table(rows: Sequence[Mapping[str, Any]], *, digits: int = 3) -> Any:
    """Rows as a Markdown table, which a notebook and GitHub both show; floats to `digits`."""
    from IPython.display import Markdown

    def cell(value: Any) -> str:
        text = f"{value:.{digits}f}" if isinstance(value, float) else str(value)
        return text.replace("<", "&lt;").replace("*", "\\*")

    if not rows:
        return Markdown("(no rows)")
    return Markdown(markdown_table([*map(str, rows[0])], [map(cell, r.values()) for r in rows]))


def show_source(function: Callable) -> Any:
    """Show the library's source of a function, as the solution of an exercise."""
    from IPython.display import Markdown

    return Markdown(f"```python\n{inspect.getsource(function)}```")
