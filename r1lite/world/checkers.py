"""One registry of what decides whether a final answer is right, family by family."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..records import Problem, UserError
from . import chat, countdown, logic, programs, science

# Families whose problems are generated: objects with clusters(), make() and check().
FAMILIES = dict(countdown=countdown, programs=programs, science=science, logic=logic, chat=chat)
Verdict = bool | None  # None: could not be told


@dataclass(frozen=True)
class Checker:
    """How the answers of one family are checked.

    check       (problem, final answer without its tags) -> Verdict
    gold_keys   the keys of Problem.gold that it reads
    lenient     (completion, its lenient final answer) -> what counts with tags ignored; None: the
                lenient final answer of the format
    check_many  (problems, final answers or None) -> verdicts, for what is slow one by one
    vote        final answer -> what counts as the same answer where answers vote: its text
    """

    check: Callable[[Problem, str], Verdict]
    gold_keys: tuple[str, ...] = ()
    lenient: Callable[[str, str], str] | None = None
    check_many: Callable[[Sequence[Problem], Sequence[str | None]], list[Verdict]] | None = None
    vote: Callable[[str], str] = str.strip


def _not_imported(problem: Problem, final: str) -> bool:
    raise UserError(
        "answers in mathematics are checked by r1lite.rewards, which has not been imported. Write "
        "`import r1lite.rewards` first."
    )


CHECKERS: dict[str, Checker] = {
    "countdown": Checker(countdown.check, ("numbers", "target"), countdown.last_expression),
    "programs": Checker(programs.check, ("tests", "shown")),
    "science": Checker(science.check, ("letter",)),
    "logic": Checker(logic.check, ("solution",)),
    "chat": Checker(chat.check, ("must", "must_not")),
    "maths": Checker(
        _not_imported, ("answer",)
    ),  # rewards.maths, which runs processes, adds its own
}

# What a value of gold is like, for the keys that r1lite's own checkers read; one of another type
# would make every answer wrong in silence, or the checker fail in the middle of a run.
GOLD_LIKE: dict[str, dict[str, object]] = {
    "countdown": {"numbers": [3, 4, 6], "target": 21},
    "programs": {"tests": [[0, 3], [4, 11]], "shown": [[1, 5]]},
    "science": {"letter": "B"},
    "logic": {"solution": [True, False, True]},
    "chat": {"must": ["hello"], "must_not": ["fool"]},
    "maths": {"answer": "3/4"},
}


def add_checker(
    name: str, check: Callable[[Problem, str], Verdict], gold_keys: Sequence[str] = (), **more
) -> None:
    """Let problems of a family be read, rewarded and measured; see Checker for the arguments.

    A family that is there already gets the new checker.
    """
    if not callable(check):
        raise UserError(
            f"the checker of {name!r} is {check!r}: it must be a function of a problem and a final "
            "answer. Hand in one."
        )
    CHECKERS[name] = Checker(check, tuple(gold_keys), **more)


def checker_of(family: str) -> Checker:
    """The checker of a family; raises UserError naming the known ones."""
    if family not in CHECKERS and family in FAMILIES:  # one of your own
        return Checker(FAMILIES[family].check)
    if family not in CHECKERS:
        raise UserError(
            f"family {family!r} is unknown: it must be one of {', '.join(CHECKERS)}. Change it to "
            "one of those, or add yours with r1lite.rewards.add_checker."
        )
    return CHECKERS[family]


def check_answer(problem: Problem, answer: str) -> Verdict:
    """Whether a final answer (tags already off) is right, by the checker of its family; None if
    that could not be told."""
    return checker_of(problem.family).check(problem, answer)


def check_answers(problems: Sequence[Problem], finals: Sequence[str | None]) -> list[Verdict]:
    """check_answer of each, False for an answer outside the format; one call a family where its
    checker takes many."""
    pairs = list(zip(problems, finals, strict=True))
    verdicts: list[Verdict] = [False] * len(pairs)
    for family in dict.fromkeys(problem.family for problem in problems):
        checker = checker_of(family)
        rows = [i for i, problem in enumerate(problems) if problem.family == family]
        if checker.check_many:
            told = checker.check_many(*zip(*(pairs[i] for i in rows)))
        else:
            told = [
                final is not None and checker.check(p, final)
                for p, final in (pairs[i] for i in rows)
            ]
        for i, verdict in zip(rows, told, strict=True):
            verdicts[i] = verdict
    return verdicts


def check_leniently(problem: Problem, text: str, last: str) -> Verdict:
    """Whether what counts of a completion is right, with tags ignored.

    last  what stands where a final answer would: Format.lenient of the text
    """
    checker = checker_of(problem.family)
    final = checker.lenient(text, last) if checker.lenient else last
    return checker.check(problem, final)
