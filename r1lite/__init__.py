"""r1lite: understand DeepSeek-R1 by running it. These are the names a notebook uses.

Each is imported when it is asked for, so that `python -m r1lite --help` does not wait for torch.
"""

import sys
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

__version__ = "0.1.0"

_WHERE = {
    "config": ("PRESETS", "RunConfig", "SftConfig", "preset"),
    "records": (
        "METRICS", "UNCHECKED", "Answer", "Completion", "Group", "Problem", "StepLog", "UserError",
    ),
    "prompt": ("FORMATS", "TEMPLATES", "Format", "render", "split_answer"),
    "world": ("FAMILIES", "as_problems", "clusters", "make_problems", "read_problems"),
    "policy": ("Policy", "generate", "load_policy", "save_policy", "token_logps"),
    "fast": ("sample_groups",),  # policy.sample_groups by the shortest way
    "rewards": (
        "Reward", "accuracy_reward", "add_checker", "as_rewards", "check_answer", "format_reward",
        "is_right_leniently", "is_right_output", "score",
    ),
    "evaluation": ("Report", "evaluate", "grade", "pass_at_k", "pass_curve"),
    "learn": (
        "Every", "Result", "group_advantages", "grpo_loss", "grpo_terms", "k3", "train",
        "train_sft",
    ),
    "stages.search": ("search_metrics",),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _WHERE.items() for name in names}
__all__ = sorted(_MODULE_OF)


_HERE, _ENVIRONMENT = Path(__file__).resolve().parent, Path(sys.prefix)
if (_ENVIRONMENT.parent / "r1lite" / "__init__.py").exists() and not _HERE.samefile(
    _ENVIRONMENT.parent / "r1lite"
):
    warnings.warn(
        f"r1lite comes from {_HERE.parent}, and this Python from {_ENVIRONMENT}, of another copy: "
        "look at PYTHONPATH and at the folder you are in.",
        stacklevel=2,
    )


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'r1lite' has no attribute {name!r}")
    try:
        value = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
    except ModuleNotFoundError as error:
        if (error.name or __name__).startswith(__name__):
            raise
        raise ModuleNotFoundError(
            f"r1lite.{name} needs the package {error.name!r}, which {sys.executable} lacks: "
            "run `make setup` and use .venv, in a notebook by `make lab` or as its kernel.",
            name=error.name,
        ) from None
    globals()[name] = value  # found without this function from now on
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
