"""Running programs that a model wrote: hostile until shown otherwise."""

from .jail import JAILS
from .pool import Limits, Outcome, Program, Run, Sandbox

__all__ = ["JAILS", "Limits", "Outcome", "Program", "Run", "Sandbox"]
