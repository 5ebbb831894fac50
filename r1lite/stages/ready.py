"""What a run may lack: a GPU, packages. Looked for before anything is downloaded."""

import importlib.util
from contextlib import suppress

from ..config import TrainingConfig
from ..records import UserError

# (setting, value, package, another value that does without)
PACKAGES = (
    ("sampler", "vllm", "vllm", '"own"'),
    ("tuning", "qlora", "bitsandbytes", '"lora"'),
    ("optimizer", "adamw_8bit", "bitsandbytes", '"adamw"'),
    ("optimizer", "paged_adamw_8bit", "bitsandbytes", '"adamw"'),
)


def check_ready(cfg: TrainingConfig, preset: str = "tiny") -> None:
    """Raises UserError where a preset's GPU or a package that the settings need is missing."""
    if preset != "tiny" and cfg.device == "auto":
        import torch

        if not torch.cuda.is_available():
            raise UserError(
                f"preset {preset!r} is made for a GPU, and none is found: it would run on the CPU. "
                "Add --device cpu if that is wanted, or use --preset tiny."
            )
    for name, value, package, other in PACKAGES:
        if getattr(cfg, name, "") != value or not _is_missing(package):
            continue
        if package == "vllm" and getattr(cfg, "engine_url", ""):
            continue  # another process has it
        raise UserError(
            f"{name}={value!r} needs {package}, which is not installed: run `pip install {package}`"
            f", or set {name}= to {other}."
        )


def _is_missing(package: str) -> bool:
    with suppress(ValueError):  # a module without a spec is one all the same
        return importlib.util.find_spec(package) is None
    return False
