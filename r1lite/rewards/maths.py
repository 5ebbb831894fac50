"""Accuracy of answers in mathematics: "accuracy rewards" by rule (arXiv 2501.12948, 2.2.2).

What an answer says is read in maths_text.py; whether it is the same, math-verify's grammar and
exact algebra tell in maths_worker.py. Here stands what a reward needs around them: a time limit
that works in any thread, and None where nothing could be checked.
"""

import atexit
import json
import os
import queue
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from ..records import UNCHECKED, Answer, Problem, UserError
from ..world import CHECKERS, add_checker, last_boxed
from .calls import plain_columns
from .maths_text import ASKS_PERCENT, names_in, vote, with_unit, words_of
from .maths_text import one_answer as one_answer
from .reward import SECONDS as CALL_SECONDS

TIME = 0.8 * CALL_SECONDS  # then no new answer is begun: after CALL_SECONDS no value would count
SECONDS = 5.0  # for one answer; the first one of a worker also waits for sympy
START = 60.0
N_WORKERS = 2
_HUNDREDTH = r"\frac{%s}{100}"


@plain_columns
def maths_reward(
    prompts: Sequence[str],
    completions: Sequence[str],
    *,
    problem: Sequence[Problem],
    parsed: Sequence[Answer] = (),
    **columns,
) -> list[float | None]:
    """1.0 if the answer block says what gold["answer"] says, else 0.0: the paper's accuracy reward
    in mathematics (arXiv 2501.12948: v1, 2.2.2; v2, p. 19), which matches a box by rule.

    The box may be missing here, and there is no share for a part. 0.0 is also for an answer outside
    the format, one of more than LONGEST characters, one that cannot be read and one that says two
    things: see one_answer. Values are compared exactly: 0.3333 is not 1/3. A unit may be missing,
    and another one than the gold's is wrong; of 5% both 5 and 0.05 are right. A gold of words is
    compared as words. UNCHECKED where it could not be checked: the gold is None or does not pay
    itself (see unpayable), algebra took longer than SECONDS or more memory than its process may
    have, or its turn had not come within TIME. Never None: it applies to every problem.
    """
    verdicts = check_many(problem, [answer.final for answer in parsed])
    return [UNCHECKED if verdict is None else float(verdict) for verdict in verdicts]


def check_many(problems: Sequence[Problem], finals: Sequence[str | None]) -> list[bool | None]:
    """matches_reference of each, N_WORKERS at a time; None from TIME on."""
    until = time.monotonic() + TIME

    def check(problem: Problem, final: str | None) -> bool | None:
        return matches_reference(problem, final) if time.monotonic() < until else None

    with ThreadPoolExecutor(N_WORKERS) as threads:
        return list(threads.map(check, problems, finals))


def matches_reference(problem: Problem, final: str | None) -> bool | None:
    """Whether a final answer (tags already off) says what gold["answer"] says; None as above."""
    gold, final = boxed(problem), final or ""
    words = words_of(gold)
    if len(words) > 1 or words and "\\text" in gold:  # as words: letters would be factors
        return words_of(final) == words
    names = names_in(gold, problem.question)
    want, unit = with_unit(gold, names)
    got, said = with_unit(final, f"{names} {unit}")
    short, long = sorted((f"{unit}/", f"{said}/"), key=len)
    if unit and said and not long.startswith(short):  # "$" may stand for "$/h"
        got = ""
    pairs = [(want, got)]
    if unit == "%" != said:
        pairs += [(_HUNDREDTH % want, got)]
    elif said == "%" != unit:
        asked = bool(ASKS_PERCENT.search(problem.question))
        pairs = pairs * asked + [(want, _HUNDREDTH % got)]
    verdicts = [same_value(*pair) for pair in pairs]
    return True if True in verdicts else None if None in verdicts else False


def boxed(problem: Problem) -> str:
    """The gold as an answer that must be paid; "" for none."""
    gold = problem.gold["answer"]
    text = "" if gold is None else str(gold)
    return text if last_boxed(text) else rf"\boxed{{{text}}}"


def unpayable(problems: Sequence[Problem]) -> list[Problem]:
    """Those in mathematics whose gold is missing, cannot be read or does not even pay itself: no
    answer to them is ever paid, and all of them are UNCHECKED. Warns if there are any."""
    asked = [p for p in problems if p.family == "maths" and not str(p.gold["answer"]).isdecimal()]
    with ThreadPoolExecutor(N_WORKERS) as threads:
        verdicts = threads.map(matches_reference, asked, map(boxed, asked))
    if lost := [problem for problem, verdict in zip(asked, verdicts) if not verdict]:
        warnings.warn(
            f"{len(lost)} of {len(problems)} problems have a gold that pays no answer, not even "
            f"itself, such as {lost[0].gold['answer']!r} of {lost[0].problem_id}: their answers "
            "count as not checked. Mend these golds, or leave the problems out.",
            stacklevel=3,
        )
    return lost


def last_box(text: str, last: str) -> str:
    """The lenient reading: the last box of what stands where an answer would, else all of that."""
    box = last_boxed(last)
    return f"\\boxed{{{box}}}" if box else last


add_checker(
    "maths",
    matches_reference,
    CHECKERS["maths"].gold_keys,
    lenient=last_box,
    check_many=check_many,
    vote=vote,
)


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
            if (reply := _ask(worker, "1", "1", START)) is not True:
                raise UserError(
                    f"answers in mathematics cannot be checked here: {reply}. Install the packages "
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
