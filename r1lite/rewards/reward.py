"""A reward as a record: what is paid, how much it counts, and where."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..records import Problem, UserError

# f(completions), f(text), or TRL's signature f(prompts=, completions=, **columns), sync or async:
# -> one value per completion: a number, None (does not apply) or UNCHECKED (could not be checked)
RewardFunction = Callable[..., Any]
SECONDS = 120.0  # for one function and all completions of a rollout
LIMIT = 1e6  # of a value and of a weight, either way: in float32 squares of larger sums overflow


def every_problem(problem: Problem) -> bool:
    """The default of Reward.applies."""
    return True


@dataclass(frozen=True)
class Reward:
    """A reward function and how it is used.

    name         a reward named accuracy or format replaces the rule of that name
    weight       what it is multiplied with in the total, of at most LIMIT either way; with 0 it
                 is logged and no part of the total
    applies      for which problems it is asked; for the others it is None and adds nothing
    seconds      limit for all completions of a call, after which none of its values counts
    needs_model  its function runs a model: it is called when sampling has ended, not beside it
    """

    name: str
    function: RewardFunction
    weight: float = 1.0
    applies: Callable[[Problem], bool] = every_problem
    seconds: float = SECONDS
    needs_model: bool = False

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise UserError(
                f"reward {self.name!r} is {self.function!r:.60}: it must be a function "
                "f(completions) or f(prompts, completions, **columns). Hand in one, or a Reward."
            )
        if not (self.seconds > 0 and abs(self.weight) <= LIMIT):
            raise UserError(
                f"reward {self.name!r} has weight={self.weight!r}, seconds={self.seconds!r}: a "
                f"weight is a finite number of at most {LIMIT:,.0f}, seconds are above 0. Set one."
            )
