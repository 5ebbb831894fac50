"""Grades one answer in mathematics after the other, in a process of its own.

A script: nothing imports it. It reads [gold, answer] as lines of JSON and answers true, false, or
null where it cannot tell. Algebra may hang (9**9**9) or eat all memory; a process can be killed,
a thread cannot, and the time limits of math-verify are signals, which a thread never gets.
"""

import contextlib
import json
import logging
import resource
import sys

MEMORY = 2 * 2**30  # bytes of address space

logging.disable(logging.CRITICAL)
from math_verify import parse, verify  # noqa: E402


def grade(gold, answer):
    """Whether two texts mean the same; None where the gold means nothing."""
    # plain golds come without dollars, and "(1, 2)" is read between dollars only
    wants = parse(f"${gold}$", parsing_timeout=None) or parse(gold, parsing_timeout=None)
    if not wants:
        return None
    found = parse(f"${answer}$", parsing_timeout=None) or parse(answer, parsing_timeout=None)
    # the order counts: x = 3 answers "3", and for "1 < x < 2" an interval will do, not the reverse
    return bool(found) and verify(wants, found, timeout_seconds=None, raise_on_error=True)


def main():
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for line in sys.stdin:
        try:
            said = grade(*json.loads(line))
        except (Exception, RecursionError):
            said = None
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
