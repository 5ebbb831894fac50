"""Rewards by rule: accuracy and format, which do not read the length of an answer.

Each has TRL's signature, f(prompts, completions, **columns) -> list[float | None], so it also
works in other trainers; the column `problem` holds one Problem, or its dict, per completion, and
`parsed` what prompt.parse made of it.
"""

from collections.abc import Sequence

from ..prompt import Format, get_format
from ..records import UNCHECKED, Answer, Problem
from ..world import check_answer, check_answers, check_leniently
from .calls import plain_columns
from .reward import RewardFunction


@plain_columns
def accuracy_reward(
    prompts: Sequence[str],
    completions: Sequence[str],
    *,
    problem: Sequence[Problem],
    parsed: Sequence[Answer] = (),
    **columns,
) -> list[float | None]:
    """1.0 for a right answer in a well-formed output, else 0.0: no share of it, and no unit.

    The paper's accuracy reward (arXiv 2501.12948: v1, 2.2.2; v2, eq. 4). Each problem goes to the
    checker of its family (world.CHECKERS): UNCHECKED where that cannot tell, which in the families
    that come with r1lite happens in mathematics alone. Never None: it applies to every problem.
    """
    verdicts = check_answers(problem, [answer.final for answer in parsed])
    return [UNCHECKED if verdict is None else float(verdict) for verdict in verdicts]


@plain_columns
def format_reward(
    prompts: Sequence[str], completions: Sequence[str], *, parsed: Sequence[Answer] = (), **columns
) -> list[float | None]:
    """1.0 if a completion keeps its format, else 0.0: in R1-Zero's, one think block and one answer
    block in order, with nothing outside.

    The paper's format reward (arXiv 2501.12948: v1, 2.2.2; v2, eq. 4), which is said to ask for the
    think tags; how strictly, and what it is worth, is not. There is no unit, nothing between 0 and
    1 and never None, since every text can be checked: see split_answer for what is refused.
    """
    return [float(answer.is_well_formed) for answer in parsed]


def is_right_output(problem: Problem, text: str, fmt: str | Format = "r1-zero") -> bool:
    """Strict: the final answer of a well-formed output is right; what cannot be told is not."""
    return is_right_answer(problem, get_format(fmt).split(text))


def is_right_answer(problem: Problem, answer: Answer) -> bool:
    """is_right_output of a completion that has been taken apart."""
    return answer.final is not None and check_answer(problem, answer.final) is True


def is_right_leniently(problem: Problem, text: str, fmt: str | Format = "r1-zero") -> bool:
    """Whatever the tags: the last expression (countdown), or what stands where an answer would,
    in mathematics in its last box if it has one.

    Not a reward: it shows how much of a gain is more than learning to write the tags.
    """
    return check_leniently(problem, text, get_format(fmt).lenient(text)) is True


def overlong_penalty(n_tokens: int, limit: int, buffer: int) -> float:
    """DAPO's soft punishment of length (arXiv 2503.14476, eq. 13). No rule of R1's paper.

    n_tokens  of the answer; limit and buffer are in tokens too, buffer at least 1
    0.0 up to limit - buffer tokens, from there in a straight line to -1.0 at the limit, and -1.0
    beyond. Never None: a length is always known.

    >>> [overlong_penalty(n, limit=100, buffer=20) for n in (80, 90, 100)]
    [0.0, -0.5, -1.0]
    """
    return max(min((limit - buffer - n_tokens) / buffer, 0.0), -1.0)


RULES: dict[str, RewardFunction] = {"accuracy": accuracy_reward, "format": format_reward}
