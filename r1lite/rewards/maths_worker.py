"""Grades one answer in mathematics after the other, in a process of its own.

A script: nothing imports it. It reads [gold, answer] as lines of JSON and answers true, false, or
null where it cannot tell. Algebra may hang (9**9**9) or eat all memory; a process can be killed,
a thread cannot, and the time limits of math-verify are signals, which a thread never gets.
"""

import contextlib
import json
import logging
import signal
import sys

MEMORY = 2 * 2**30  # bytes of address space
LIFE = 120  # seconds for one answer: whoever asked has long gone

logging.disable(logging.CRITICAL)
try:
    from latex2sympy2_extended import NormalizationConfig
    from latex2sympy2_extended.latex2sympy2 import PSParser
    from math_verify import LatexExtractionConfig, parse, verify
except ImportError as error:  # whoever starts this tells the reader
    print(json.dumps(str(error)), flush=True)
    raise SystemExit(1) from None

# units stay: without them "3t" would be 3
LATEX = [
    LatexExtractionConfig(
        normalization_config=NormalizationConfig(nits=True, malformed_operators=True)
    )
]
_math = PSParser.math


def _whole(parser):
    """The grammar stops where it understands no more: of "7 | 5" it would read 7."""
    found = _math(parser)
    if parser.getCurrentToken().text != "<EOF>":
        raise ValueError("the text goes on")
    return found


PSParser.math = _whole


def read(text):
    """What the whole text means, in a list; empty if it means nothing.

    Left to itself, math-verify would look on for any number in it: of "7 ? 5" it would read 5.
    """
    text = " ".join(text.replace("\\$", "").strip(" $").split())
    once = {"fallback_mode": "no_fallback", "extraction_mode": "first_match"}
    return [] if "$" in text else parse(f"${text}$", LATEX, parsing_timeout=None, **once)


def grade(gold, answer):
    """Whether two texts mean the same; None where the gold means nothing."""
    wants, found = read(gold), read(answer)
    if not wants:
        return None
    # the order counts: x = 3 answers "3", and for "1 < x < 2" an interval will do, not the reverse
    return bool(found) and verify(wants, found, timeout_seconds=None, raise_on_error=True)


def main():
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # Windows has none, and no alarm either

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    alarm = getattr(signal, "alarm", int)
    for line in sys.stdin:
        alarm(LIFE)
        try:
            said = grade(*json.loads(line))
        except (Exception, RecursionError):
            said = None
        alarm(0)
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
