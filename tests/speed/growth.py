"""How a step's time and memory grow with the group, the length, the model and the vocabulary."""

import multiprocessing
import resource
import tempfile
from pathlib import Path
from typing import Any

from r1lite.lab.bench import bench_config, every_answer, step_metrics, timed_run

START = {"group_size": 8, "max_new_tokens": 128, "hidden_size": 128, "vocab_size": 600}
LARGE = 32768
# what grows -> (its values, what differs from START)
GROWTH: dict[str, tuple[tuple[int, ...], dict[str, int]]] = {
    "group_size": ((4, 8, 16, 32), {}),
    "max_new_tokens": ((64, 128, 256, 512), {}),
    "hidden_size": ((64, 128, 256, 512), {}),
    "vocab_size": ((600, 4096, 16384, LARGE), {}),
    # if scores of all words were ever held for all tokens, this one's memory would show it
    "max_new_tokens, 32k words": ((64, 128, 256, 512), {"vocab_size": LARGE}),
}


def measure_point(point: dict[str, int]) -> dict[str, float]:
    """Seconds and peak memory of a step of a model with random weights, in a process of its own.

    Random weights hardly ever write the stop token, so answers have the full length; groups
    whose rewards are equal are trained on as well, or nothing would be.
    """
    from r1lite.policy.load import Policy, save_policy
    from r1lite.stages.base import SHAPE, make_model, make_tokenizer

    tokenizer = make_tokenizer()
    hidden = point["hidden_size"]
    shape = SHAPE | {"hidden_size": hidden, "intermediate_size": 3 * hidden}
    model = make_model(tokenizer, seed=0, shape=shape)
    model.resize_token_embeddings(point["vocab_size"])
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "model"
        save_policy(Policy(model, tokenizer, SHAPE["max_position_embeddings"]), base)
        cfg = bench_config(
            model=str(base),
            n_problems=8,
            steps=4,
            group_size=point["group_size"],
            max_new_tokens=point["max_new_tokens"],
        )
        found = step_metrics(timed_run(cfg, every_answer), cfg)
    kept = {name: found[name] for name in ("rollout_s", "train_s", "step_s", "mean_tokens")}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return point | kept | {"peak_memory_mib": peak}


def in_own_process(point: dict[str, int]) -> dict[str, float]:
    """measure_point, alone in a fresh process, so that its peak memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure_point, (point,))


def growth() -> dict[str, list[dict[str, float]]]:
    """One thing grows at a time, the others stay at START."""
    return {
        name: [in_own_process(START | changes | {grows(name): value}) for value in values]
        for name, (values, changes) in GROWTH.items()
    }


def grows(name: str) -> str:
    """The field of START that a line of GROWTH changes."""
    return name.split(",")[0]


def _short(value: int) -> str:
    return str(value) if value < 1024 else f"{value // 1024}k"


def growth_figure(found: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Time (left scale) and memory above the smallest point (right) of each, log axes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from r1lite.runlog import atomic_path

    pairs = plt.subplots(2, len(found), figsize=(14, 5), constrained_layout=True, sharex="col")
    figure, axes = pairs
    for column, (name, points) in enumerate(found.items()):
        x = [point[grows(name)] for point in points]
        for part in ("rollout_s", "train_s"):
            y = [point[part] for point in points]
            axes[0, column].plot(x, y, marker="o", label=part.removesuffix("_s"))
        axes[1, column].plot(
            x, [point["peak_memory_mib"] for point in points], marker="o", color="grey"
        )
        proportional = [points[0]["step_s"] / 2 * value / x[0] for value in x]
        axes[0, column].plot(x, proportional, ls=":", color="black", label="proportional")
        axes[0, column].set(
            xscale="log", yscale="log", title=name.replace("_", " ").replace(", ", ",\n")
        )
        axes[1, column].set_xticks(x, [_short(value) for value in x])
        axes[1, column].minorticks_off()
        axes[1, column].set_ylim(0, None)
    axes[0, 0].set_ylabel("seconds a step")
    axes[1, 0].set_ylabel("peak memory, MiB")
    axes[0, 0].legend(frameon=False, fontsize=8)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    plt.close(figure)
