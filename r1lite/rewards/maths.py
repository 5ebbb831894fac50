"""Accuracy of answers in mathematics: "accuracy rewards" by rule (arXiv 2501.12948, 2.2.2).

math-verify reads numbers, fractions, intervals, sets, equations and units and compares them by
algebra. Around it stands what a reward needs: one answer, not several to choose from; a time
limit that works in any thread; and None where nothing could be checked.
"""

from __future__ import annotations

import atexit
import json
import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from ..prompt import split_answer
from ..records import Problem, UserError
from . import calls

TIME = 0.8 * calls.SECONDS  # then no new answer is begun: after calls.SECONDS no value would count
SECONDS = 5.0  # for one answer; the first one of a worker also waits for sympy
START = 60.0
LONGEST = 1000  # characters of an answer: a number that needs more is no answer
N_WORKERS = 2
_BOXED = re.compile(r"\\boxed\s*\{")
_BETWEEN = re.compile(r"\$\$?([^$]+)\$\$?|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
# words, but not the product ab of "ab - 5", nor the point of ".5"
_PROSE = re.compile(
    r"(?:(?<![\\{])(?:\b[^\W\d_]{2,}\b|[\u4e00-\u9fff]+)(?![-+*/^=<>(]|\s+[-+*/^=<>]\s)"
    r"(?:[\s,:。]|\.(?!\d))*)+"
)
_UNIT = re.compile(
    r"(?<=[\d})\]])[\s\\,]*\\(?:text|mathrm|mbox)\s*\{[^{}\d]*\}(?:\^\{?[23]\}?)?[\s.]*$"
)
_WORDS = re.compile(r"\\(?:text|mathrm|mbox)\s*\{([^{}]*)\}")
# words that are no words around an answer: they make another number of it
_CHANGES = re.compile(
    r"(?<!\\)\b(?:not|minus|negative|half|(?:more|less|greater) than|at (?:least|most)|dozen"
    r"|hundred|thousand|(?:m|b|tr)illion|sin|cos|tan|cot|ln|log|exp|sqrt|roots?|pi|mod|squared"
    r"|cubed|factorial)\b(?!\()|[不非负半百千万亿]",
    re.IGNORECASE,
)


def one_answer(text: str) -> str | None:
    """The one mathematical thing that a final answer says, or None: who says two has guessed twice.

    What stands in \\boxed{}; else between dollars; else the text without the words around it, and
    without a unit.

    >>> one_answer("so it is \\\\boxed{\\\\frac{1}{2}} ."), one_answer("the answer is 12 cm")
    ('\\\\frac{1}{2}', '12')
    >>> one_answer("1 or 2") is None, one_answer("\\\\boxed{1} or \\\\boxed{2}") is None
    (True, True)
    """
    starts = list(_BOXED.finditer(text))
    if starts:
        inside = _inside(text, starts[0].end()) if len(starts) == 1 else None
        return inside and _UNIT.sub("", inside)
    if _CHANGES.search(text):
        return None
    between = [found[found.lastindex] for found in _BETWEEN.finditer(text)]
    pieces = between or [part.strip().rstrip(".,:。") for part in _PROSE.split(_UNIT.sub("", text))]
    said = [_UNIT.sub("", piece).strip() for piece in pieces if re.search(r"\w", piece)]
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

    None where that could not be checked: the gold cannot be read, algebra took longer than SECONDS
    or more memory than its process may have, or the answer's turn had not come within TIME. An
    unreadable answer is 0.0.
    """
    finals = [split_answer(text).final for text in completions]
    until = time.monotonic() + TIME

    def says(problem: Problem, final: str | None) -> bool | None:
        return says_gold(problem, final) if time.monotonic() < until else None

    with ThreadPoolExecutor(N_WORKERS) as threads:
        said = list(threads.map(says, problem, finals))
    return [None if says is None else float(says) for says in said]


def says_gold(problem: Problem, final: str | None) -> bool | None:
    """Whether a final answer (tags already off) says what gold["answer"] says; None as above."""
    gold = str(problem.gold["answer"])
    words = _WORDS.fullmatch(gold)  # which mean nothing to algebra: "even", asked for \text{even}
    if final and words and final.strip(" .") == words[1].strip():
        return True
    answer = one_answer(final[:LONGEST]) if final and len(final) <= LONGEST else None
    return same_value(one_answer(gold) or gold, answer or "")


def same_value(gold: str, answer: str, seconds: float = SECONDS) -> bool | None:
    """Whether an answer means what the gold means; None if that cannot be told in time.

    Raises UserError without math-verify: else every answer would be None, and nobody knew why.
    """
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
            if (said := _ask(worker, "1", "1", START)) is not True:
                raise UserError(
                    f"answers in mathematics cannot be checked here: {said}. Install the packages "
                    "of requirements.txt: pip install math-verify."
                )
        return _ask(worker, gold, answer, seconds)
    except BaseException as error:  # also Ctrl-C: the next answer must not get this one's verdict
        if worker is not None:
            worker.kill()
            worker.communicate()
        if isinstance(error, UserError) or not isinstance(error, (OSError, ValueError)):
            raise
        return None
    finally:
        free.put(worker)


def _ask(worker: subprocess.Popen, gold: str, answer: str, seconds: float) -> bool | None:
    end = threading.Timer(seconds, worker.kill)
    end.start()
    try:
        worker.stdin.write(json.dumps([gold, answer]) + "\n")
        worker.stdin.flush()
        return json.loads(worker.stdout.readline())  # of a worker that was killed: "", a ValueError
    finally:
        end.cancel()


@cache
def _workers() -> queue.Queue[subprocess.Popen | None]:
    free: queue.Queue[subprocess.Popen | None] = queue.Queue()
    for _ in range(N_WORKERS):
        free.put(None)  # started when it is needed

    def end(owner: int = os.getpid()) -> None:
        while os.getpid() == owner and not free.empty():  # a child would wait for its parent's
            if worker := free.get():
                worker.kill()
                worker.communicate()

    atexit.register(end)
    if hasattr(os, "register_at_fork"):  # a forked child starts its own; Windows does not fork
        os.register_at_fork(after_in_child=_workers.cache_clear)
    return free
