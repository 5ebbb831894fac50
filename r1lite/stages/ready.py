"""What a preset may lack. Looked for before anything is downloaded."""

from ..config import TrainingConfig
from ..records import UserError


def check_ready(cfg: TrainingConfig, preset: str = "tiny") -> None:
    """Raises UserError where a preset's GPU or a package that a training needs is missing."""
    from ..learn.models import check_packages

    check_gpu(cfg, preset)
    check_packages(cfg)


def check_gpu(cfg: TrainingConfig, preset: str) -> None:
    """Raises UserError where a preset's GPU is missing and the CPU was not asked for."""
    import torch

    if preset != "tiny" and cfg.device == "auto" and not torch.cuda.is_available():
        raise UserError(
            f"preset {preset!r} is made for a GPU, and none is found: it would run on the CPU. "
            "Add --device cpu if that is wanted, or use --preset tiny."
        )
