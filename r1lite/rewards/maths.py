"""Accuracy of answers in mathematics: "accuracy rewards" by rule (arXiv 2501.12948, 2.2.2).

math-verify reads numbers, fractions, intervals, sets, equations and units and compares them by
algebra. Around it stands what a reward needs: one answer, not several to choose from; a time
limit that works in any thread; and None where nothing could be checked.
"""

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

from ..records import UNCHECKED, Answer, Problem, UserError
from ..world import CHECKERS, add_checker, last_boxed
from ..world.common import WORDS
from .calls import plain_columns
from .reward import SECONDS as CALL_SECONDS

TIME = 0.8 * CALL_SECONDS  # then no new answer is begun: after CALL_SECONDS no value would count
SECONDS = 5.0  # for one answer; the first one of a worker also waits for sympy
START = 60.0
LONGEST = 1000  # characters of an answer: a number that needs more is no answer
N_WORKERS = 2
_BOX = re.compile(r"\\(?:boxed|fbox)")
_BETWEEN = re.compile(r"\$\$?([^$]+)\$\$?|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_NO_TERM = r"(?![-+*/^=<>(]|\s+[-+*/^=<>]\s)"  # a word that goes on so is a name in a formula
_PROSE = re.compile(rf"(?<![\\{{])(?:\b[^\W\d_]{{2,}}\b|[\u4e00-\u9fff]+){_NO_TERM}")
_UNIT = re.compile(
    r"(?<=[\d})\]])[\s\\,]*\\(?:text|mathrm|mbox)\s*\{([^{}\d]*)\}(?:\^\{?[23]\}?)?[\s.]*$"
)
_HOW_MANY = re.compile(r"\bhow many((?: \w+){1,3})", re.IGNORECASE)
_WORDS = re.compile(r"\\(?:text|mathrm|mbox)\s*\{([^{}]*)\}")


def _either(where: str, more: str = "") -> str:
    """A pattern for one of the words there; Chinese ones, the second list, need no space around.

    These are all that may stand before an answer, and behind it. No list of what may not would ever
    be whole: "anything but 12", "12 dozens", "twice 12" and "5 percent" name other numbers.
    """
    words, characters = (listed.split() for listed in WORDS[where])
    return rf"(?:\b(?:{'|'.join(words + more.split())})\b|{'|'.join(characters)})"


_LEAD = re.compile(
    rf"\s*(?:{_either('before an answer')}{_NO_TERM}(?:[\s,:。]|\.(?!\d))*)*", re.IGNORECASE
)


def one_answer(text: str, units: str = "") -> str | None:
    """The one mathematical thing that a final answer says, or None: who says two has guessed twice.

    What stands in \\boxed{}; else what is left without a few words before it ("so the answer is")
    and a unit behind it, dollars around it or not. Any other word there is None: it may make
    another number of it. What stands around a box is not read.
    units  words that are units too, between spaces: those of the gold, and what is counted

    >>> one_answer("so it is \\\\boxed{\\\\frac{1}{2}} ."), one_answer("the answer is 12 cm")
    ('\\\\frac{1}{2}', '12')
    >>> one_answer("1 or 2") is None, one_answer("\\\\boxed{1} or \\\\boxed{2}") is None
    (True, True)
    >>> one_answer("12 dozens") is None, one_answer("12 dozens", units="dozens")
    (True, '12')
    """
    unit = _either("behind an answer", units)
    # from where no mark stands before, and six units at most: else quadratic in hostile texts
    tail = re.compile(rf"(?<![\s,.:。])(?:[\s,.:。]*{unit}){{0,6}}[\s,.:。]*$", re.IGNORECASE)

    def bare(formula: str) -> str:
        unit = _UNIT.search(formula)
        is_unit = unit and tail.match(re.sub(r"\b[mshgLl]\b|/", " ", unit[1]))
        return formula[: unit.start()] if is_unit else formula

    if boxes := _BOX.findall(text):
        return bare(last_boxed(text)) or None if len(boxes) == 1 else None
    start = _LEAD.match(text).end()
    if formula := _BETWEEN.match(text, start):
        answer = bare(formula[formula.lastindex]) if tail.match(text, formula.end()) else ""
    else:
        answer = bare(text[start:])
        answer = answer[: tail.search(answer).start()]
        answer = "" if _PROSE.search(answer) else answer
    return answer.strip() if re.search(r"\w", answer) else None


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
    things: see one_answer. A unit behind a number is not compared, and of 5% both 5 and 0.05 are
    right. UNCHECKED where it could not be checked: the gold cannot be read, algebra took longer
    than SECONDS or more memory than its process may have, or its turn had not come within TIME.
    Never None: it applies to every problem that it is asked of.
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
    gold = str(problem.gold["answer"])
    words = _WORDS.fullmatch(gold)  # which mean nothing to algebra: "even", asked for \text{even}
    if words and not re.search(r"\w", words[1]):
        return None
    if final and words and final.strip(" .") == words[1].strip(" ."):
        return True
    named = " ".join([gold, *_HOW_MANY.findall(problem.question)])  # 12 beads, of beads asked for
    units = " ".join(re.findall(r"(?<!\\)\b[^\W\d_]{2,}\b", named))
    answer = one_answer(final, units) if final and len(final) <= LONGEST else None
    return same_value(one_answer(gold, units) or gold, answer or "")


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
