"""The command line: python -m r1lite <verb>; `--help` on each verb lists its settings.

What is imported at the top is in every Python: a missing package, an old Python and Ctrl-C during
the imports of the others become one line.
"""

from __future__ import annotations

import difflib
import os
import sys
from typing import Any

SET_UP = (
    "Run `make setup` (the same: python r1lite/environment.py), then .venv/bin/python -m r1lite"
)
NO_DOCSTRINGS = (
    "Python runs without docstrings here (-OO, or PYTHONOPTIMIZE=2), and transformers reads them. "
    "Leave that out: PYTHONOPTIMIZE= python -m r1lite ..."
)


def __getattr__(name: str) -> Any:
    """`parse` and `VERBS`: imported when they are asked for."""
    if name not in ("parse", "VERBS"):
        raise AttributeError(f"{__name__} has no {name!r}")
    from . import verbs

    return getattr(verbs, name)


def usage() -> str:
    """Every verb with what it does."""
    from .verbs import ABOUT, VERBS

    lines = [f"  {name:10s}{ABOUT[name]}" for name in VERBS]
    head = "usage: python -m r1lite <verb> [settings]   (--help after a verb lists its settings)"
    return "\n".join([head, "", *lines])


def do(args: list[str]) -> int:
    """Run one verb; raises UserError."""
    if not args or args[0] in ("-h", "--help"):
        print(usage())
        return 0 if args else 2
    from .records import UserError
    from .verbs import VERBS, parse

    if args[0] not in VERBS:
        near = difflib.get_close_matches(args[0], VERBS, 1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Verbs: {', '.join(VERBS)}."
        raise UserError(f"{args[0]!r} is no verb. {hint}")
    asked = parse(args[0], args[1:])
    if sys.flags.optimize > 1:
        raise UserError(NO_DOCSTRINGS)
    asked.do()
    return 0


def say(line: str) -> None:
    print(f"r1lite: {line}", file=sys.stderr)


def main(argv: list[str] | None = None) -> int:
    """Run one verb. A UserError, a missing package and no memory left are one line on stderr and
    exit status 2; Ctrl-C is 130."""
    if sys.version_info < (3, 10):  # noqa: UP036
        say(f"this is Python {sys.version.split()[0]}, and 3.10 to 3.13 are needed. {SET_UP}.")
        return 2
    try:
        return do(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt as stop:
        if os.environ.get("RANK", "0") == "0":  # one process of a torchrun
            say(str(stop) or "stopped; what was saved is there, the same command goes on from it")
        return 130
    except ModuleNotFoundError as error:
        if (error.name or "r1lite").startswith("r1lite"):
            raise
        say(f"the package {error.name!r} is missing in {sys.executable}. {SET_UP}.")
    except (ValueError, RuntimeError, MemoryError) as error:
        line = one_line(error)
        if not line:
            raise
        say(line)
    return 2


def one_line(error: Exception) -> str:
    """What a reader can do about an error, if it is one of that kind; else nothing."""
    from .learn.health import lacks_memory
    from .records import UserError

    return str(error) if isinstance(error, UserError) else lacks_memory(error)


if __name__ == "__main__":
    sys.exit(main())
