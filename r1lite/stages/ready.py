"""What a preset may lack. Looked for before anything is downloaded."""

from ..config import TrainingConfig
from ..records import UserError


def check_ready(cfg: TrainingConfig, preset: str = "tiny") -> None:
    """Raises UserError where a preset's GPU or a package that the settings need is missing."""
    import torch

    from ..learn.models import check_packages

    if preset != "tiny" and cfg.device == "auto" and not torch.cuda.is_available():
        raise UserError(
            f"preset {preset!r} is made for a GPU, and none is found: it would run on the CPU. "
            "Add --device cpu if that is wanted, or use --preset tiny."
        )
    check_packages(cfg)
