"""Accuracy of answers in mathematics: "accuracy rewards" by rule (arXiv 2501.12948, 2.2.2).

math-verify reads numbers, fractions, intervals, sets, equations and units and compares them by
algebra. Around it stands what a reward needs: one answer, not several to choose from; a time
limit that works in any thread; and None where nothing could be checked.
"""

from __future__ import annotations

import atexit
import json
import queue
import re
import selectors
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from ..prompt import split_answer
from ..records import Problem

SECONDS = 5.0  # for one answer; the first one of a worker also waits for sympy
START = 60.0
LONGEST = 1000  # characters of an answer: a number that needs more is no answer
N_WORKERS = 2
_BOXED = re.compile(r"\\boxed\s*\{")
_IN_DOLLARS = re.compile(r"\$\$?([^$]+)\$\$?")
_PROSE = re.compile(r"(?:(?<![\\A-Za-z{])[A-Za-z]{2,}(?![A-Za-z(])[\s,:.]*)+")


def one_answer(text: str) -> str | None:
    """The one mathematical thing that a final answer says, or None: who says two has guessed twice.

    What stands in \\boxed{}; else between dollars; else the text without the words around it.

    >>> one_answer("so it is \\\\boxed{\\\\frac{1}{2}} ."), one_answer("the answer is 12 cm")
    ('\\\\frac{1}{2}', '12')
    >>> one_answer("1 or 2") is None, one_answer("\\\\boxed{1} or \\\\boxed{2}") is None
    (True, True)
    """
    starts = list(_BOXED.finditer(text))
    if starts:
        return _inside(text, starts[0].end()) if len(starts) == 1 else None
    between = _IN_DOLLARS.findall(text)
    pieces = between or [part.strip(" \t\n.,:") for part in _PROSE.split(text)]
    said = [piece.strip() for piece in pieces if re.search(r"\w", piece)]
    return said[0] if len(said) == 1 else None


def _inside(text: str, start: int) -> str | None:
    """What stands up to the brace that closes the one before start."""
    depth = 1
    for end in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        if depth == 0:
            return text[start:end].strip() or None
    return None


def maths_reward(
    prompts: Sequence[str], completions: Sequence[str], *, problem: Sequence[Problem], **columns
) -> list[float | None]:
    """1.0 if the answer block says what gold["answer"] says, else 0.0.

    None where that could not be checked: the gold cannot be read, or algebra took longer than
    SECONDS or more memory than its process may have. An unreadable answer is 0.0.
    """

    def worth(p: Problem, text: str) -> float | None:
        final = split_answer(text).final
        answer = one_answer(final[:LONGEST]) if final and len(final) <= LONGEST else None
        said = same_value(str(p.gold["answer"]), answer or "no answer")
        return said if said is None else float(said)

    with ThreadPoolExecutor(N_WORKERS) as threads:
        return list(threads.map(worth, problem, completions))


def same_value(gold: str, answer: str, seconds: float = SECONDS) -> bool | None:
    """Whether an answer means what the gold means; None if that cannot be told in time."""
    free = _workers()
    worker = free.get()
    try:
        if worker is None or worker.poll() is not None:
            worker = subprocess.Popen(
                [sys.executable, "-I", Path(__file__).with_name("maths_worker.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            _ask(worker, "1", "1", START)
        return _ask(worker, gold, answer, seconds)
    except (TimeoutError, OSError, ValueError):
        if worker is not None:
            worker.kill()
            worker.communicate()
        return None
    finally:
        free.put(worker)


def _ask(worker: subprocess.Popen, gold: str, answer: str, seconds: float) -> bool | None:
    worker.stdin.write(json.dumps([gold, answer]) + "\n")
    worker.stdin.flush()
    with selectors.DefaultSelector() as ready:
        ready.register(worker.stdout, selectors.EVENT_READ)
        if not ready.select(seconds):
            raise TimeoutError
    return json.loads(worker.stdout.readline())  # of a worker that died: "", a ValueError


@cache
def _workers() -> queue.Queue[subprocess.Popen | None]:
    free: queue.Queue[subprocess.Popen | None] = queue.Queue()
    for _ in range(N_WORKERS):
        free.put(None)  # started when it is needed

    def end() -> None:
        while not free.empty():
            if worker := free.get():
                worker.kill()
                worker.communicate()

    atexit.register(end)
    return free
