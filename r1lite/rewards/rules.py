"""Rewards by rule: accuracy and format, which do not read the length of an answer.

Each has TRL's signature, f(prompts, completions, **columns) -> list[float | None], so it also
works in other trainers; the column `problem` holds one Problem, or its dict, per completion.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice

from ..prompt import last_answer, split_answer
from ..records import Group, Problem
from ..world import check_answer, last_boxed
from .calls import Reward, call_rewards, plain_columns
from .maths import matches_reference, maths_reward

_ARITHMETIC = re.compile(r"[\d\s()+\-*/]+")
_BEFORE, _AFTER = " \t\r\n)+-*/", " \t\r\n(+-*/"  # what no expression begins or ends with


@plain_columns
def accuracy_reward(
    prompts: Sequence[str], completions: Sequence[str], *, problem: Sequence[Problem], **columns
) -> list[float | None]:
    """1.0 for a right answer in a well-formed output, else 0.0: no share of it, and no unit.

    The paper's accuracy reward (arXiv 2501.12948: v1, 2.2.2; v2, eq. 4). Each problem goes to the
    checker of its family, those of "maths" to maths_reward, all at once: None where that cannot
    tell. The checkers of the other families always can: they never give None.
    """
    pairs = list(zip(problem, completions, strict=True))
    maths = [pair for pair in pairs if pair[0].family == "maths"]
    asked, texts = zip(*maths) if maths else ((), ())
    told = iter(maths_reward(texts, texts, problem=asked))
    return [
        next(told) if p.family == "maths" else float(is_right_output(p, text)) for p, text in pairs
    ]


@plain_columns
def format_reward(
    prompts: Sequence[str], completions: Sequence[str], **columns
) -> list[float | None]:
    """1.0 if one think block and one answer block stand in order, with nothing outside, else 0.0.

    The paper's format reward (arXiv 2501.12948: v1, 2.2.2; v2, eq. 4), which is said to ask for the
    think tags; how strictly, and what it is worth, is not. There is no unit, nothing between 0 and
    1 and never None, since every text can be checked: see split_answer for what is refused.
    """
    return [float(split_answer(text).is_well_formed) for text in completions]


def is_right_output(problem: Problem, text: str) -> bool:
    """Strict: the answer block of a well-formed output is right; what cannot be told is not."""
    final = split_answer(text).final
    return final is not None and _is_correct(problem, final)


def _is_correct(problem: Problem, final: str) -> bool:
    if problem.family == "maths":
        return matches_reference(problem, final) is True
    return check_answer(problem, final)


def is_right_leniently(problem: Problem, text: str) -> bool:
    """Whatever the tags: the last expression (countdown), or what stands where an answer would,
    in mathematics in its last box if it has one.

    Not a reward: it shows how much of a gain is more than learning to write the tags.
    """
    if problem.family == "countdown":
        runs = _ARITHMETIC.findall(re.sub(r"</?(think|answer)>", " | ", text))
        trimmed = [run.lstrip(_BEFORE).rstrip(_AFTER) for run in runs]
        expressions = [run for run in trimmed if any(sign in run for sign in "+-*/")]
        return bool(expressions) and check_answer(problem, expressions[-1])
    last = last_answer(text)
    box = last_boxed(last) if problem.family == "maths" else ""
    return _is_correct(problem, f"\\boxed{{{box}}}" if box else last)


def overlong_penalty(n_tokens: int, limit: int, buffer: int) -> float:
    """DAPO's soft punishment of length (arXiv 2503.14476, eq. 13). No rule of R1's paper.

    n_tokens  of the answer; limit and buffer are in tokens too, buffer at least 1
    0.0 up to limit - buffer tokens, from there in a straight line to -1.0 at the limit, and -1.0
    beyond. Never None: a length is always known.

    >>> [overlong_penalty(n, limit=100, buffer=20) for n in (80, 90, 100)]
    [0.0, -0.5, -1.0]
    """
    return max(min((limit - buffer - n_tokens) / buffer, 0.0), -1.0)


RULES: dict[str, Reward] = {"accuracy": accuracy_reward, "format": format_reward}


def score(
    groups: Sequence[Group],
    weights: Mapping[str, float],
    rewards: Mapping[str, Reward] | None = None,
) -> list[Group]:
    """Fill in the rewards of groups.

    weights  reward name -> weight in the total; the paper adds accuracy and format with the
             same weight (v2, eq. 4)
    rewards  name -> function, in place of the rule of that name or beside the rules; without a
             weight it counts once. A None adds nothing to the total.

    A function gets what TRL's trainer would hand it:
    prompts, completions   the questions and the answers
    completion_ids         the answers' tokens
    problem                the Problems, and each key of their gold as a column of that name, None
                           where a problem lacks it; `answer` also as `solution`, TRL's name for it
    log_extra, log_metric  functions of (name, values) and (name, number); what they are told is
                           dropped, as the log has the rewards' own values only
    trainer_state          None, as there is no such trainer
    """
    functions = {**RULES, **(rewards or {})}
    weights = dict.fromkeys(rewards or {}, 1.0) | dict(weights)
    problems = [group.problem for group in groups for _ in group.completions]
    answers = [completion for group in groups for completion in group.completions]
    keys = dict.fromkeys(key for problem in problems for key in problem.gold)
    columns = {key: [problem.gold.get(key) for problem in problems] for key in keys}
    if "answer" in columns:
        columns.setdefault("solution", columns["answer"])
    columns |= {
        "prompts": [problem.question for problem in problems],
        "completions": [answer.text for answer in answers],
        "completion_ids": [list(answer.token_ids) for answer in answers],
        "problem": problems,
        "trainer_state": None,
        "log_extra": lambda column, values: None,
        "log_metric": lambda name, value: None,
    }
    values = call_rewards({name: functions[name] for name in weights}, columns)
    told, scored = {name: iter(values[name]) for name in weights}, []
    for group in groups:
        n = len(group.completions)
        parts = {name: tuple(islice(told[name], n)) for name in weights}
        totals = tuple(
            sum(weights[name] * (part[i] or 0.0) for name, part in parts.items()) for i in range(n)
        )
        scored.append(replace(group, rewards=totals, parts=parts))
    return scored
