"""Checkers for the exercises: `check.advantages(mine)` under each stub.

Each compares with numbers worked out on paper (written in data/exercises as constants), never with
what the learner's own code gives elsewhere. A stub that is still None is no error, and a wrong
answer is told in words and set aside, so a whole notebook always runs to its end. An exercise is an
entry of a file in data/exercises; its README says how to add one.
"""

import sys
from collections.abc import Callable
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
        return _checker(name, special.CHECKS[name].__doc__, special.CHECKS[name])
    signature, steps = exercises.load(name)
    marker = special.MARKERS.get(name, mark)
    return _checker(name, signature, lambda mine: marker(name, mine, steps))


def _checker(name: str, doc: str | None, marker: Callable[[Any], None]) -> Callable[[Any], None]:
    """The marker, with a wrong answer printed: an exception would end Run All."""

    def checker(mine: Any, measured: Callable[[Any], Any] | None = None) -> None:
        """measured  what makes of the answer the figures that are checked, if it is not itself"""
        try:
            marker(_measured(name, mine, measured) if measured else mine)
        except AssertionError as wrong:
            print(wrong)
            _set_aside(mine, sys._getframe(1).f_globals)

    checker.__name__ = checker.__qualname__ = name
    checker.__doc__ = doc
    return checker


def _measured(name: str, mine: Any, function: Callable[[Any], Any]) -> Any:
    try:
        return function(mine)
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise AssertionError(f"{name}: {mine!r:.60} is of another kind ({error}).") from None


def _set_aside(mine: Any, names: dict[str, Any]) -> None:
    """Make the notebook's my_... None again, as the cells below would go on with a wrong answer."""
    for name, value in list(names.items()):
        if value is mine and name.startswith("my_") and name != "my_guess":
            names[name] = None
            print(f"{name} is None again: the next cells use r1lite's version.")


def __dir__() -> list[str]:
    return [*globals(), *__getattr__("__all__")]
