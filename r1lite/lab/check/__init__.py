"""Checkers for the exercises: `check.advantages(mine)` under each stub.

Each compares with numbers worked out on paper (written in data/exercises as constants), never with
what the learner's own code gives elsewhere. A stub that is still None is no error, so a whole
notebook always runs to its end; a wrong answer raises AssertionError with a message that says what
it is. An exercise is an entry of a file in data/exercises; its README says how to add one.
"""

from typing import Any

from . import exercises, special
from .marking import mark


def __getattr__(name: str) -> Any:
    """Makes `check.NAME` from its entry when asked for it, so that a new entry is a new check."""
    if name == "__all__":
        return sorted({*special.CHECKS, *exercises.entries()})
    if name.startswith("_"):  # what Python and notebooks look for in any module
        raise AttributeError(name)
    if name in special.CHECKS:
        return special.CHECKS[name]
    signature, steps = exercises.load(name)

    def checker(mine: Any) -> None:
        special.MARKERS.get(name, mark)(name, mine, steps)

    checker.__name__ = checker.__qualname__ = name
    checker.__doc__ = signature
    return checker


def __dir__() -> list[str]:
    return [*globals(), *__getattr__("__all__")]
