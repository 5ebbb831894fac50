"""Rewards by rule: accuracy and format, which do not read the length of an answer.

Each has TRL's signature, f(prompts, completions, **columns) -> list[float | None], so it also
works in other trainers; the column `problem` holds one Problem per completion.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..prompt import last_answer, split_answer
from ..records import Group, Problem
from ..world import is_correct, last_boxed
from .calls import Reward, call_rewards
from .maths import maths_reward, says_gold

_ARITHMETIC = re.compile(r"[\d\s()+\-*/]+")
_BEFORE, _AFTER = " \t\r\n)+-*/", " \t\r\n(+-*/"  # what no expression begins or ends with


def accuracy_reward(
    prompts: Sequence[str], completions: Sequence[str], *, problem: Sequence[Problem], **columns
) -> list[float | None]:
    """1.0 for a right answer in a well-formed output, else 0.0 (arXiv 2501.12948, 2.2.2).

    Problems of family "maths" go to maths_reward, all at once: None where that cannot tell.
    """
    pairs = list(zip(problem, completions, strict=True))
    maths = [pair for pair in pairs if pair[0].family == "maths"]
    asked, texts = zip(*maths) if maths else ((), ())
    told = iter(maths_reward(texts, texts, problem=asked))
    return [next(told) if p.family == "maths" else float(is_right(p, text)) for p, text in pairs]


def format_reward(
    prompts: Sequence[str], completions: Sequence[str], **columns
) -> list[float | None]:
    """1.0 if one think block and one answer block stand in order, with nothing outside."""
    return [float(split_answer(text).is_well_formed) for text in completions]


def is_right(problem: Problem, text: str) -> bool:
    """Strict: the answer block of a well-formed output is right; what cannot be told is not."""
    final = split_answer(text).final
    return final is not None and _is_correct(problem, final)


def _is_correct(problem: Problem, final: str) -> bool:
    if problem.family == "maths":
        return says_gold(problem, final) is True
    return is_correct(problem, final)


def is_right_leniently(problem: Problem, text: str) -> bool:
    """Whatever the tags: the last expression (countdown), or what stands where an answer would,
    in mathematics in its last box if it has one.

    Not a reward: it shows how much of a gain is more than learning to write the tags.
    """
    if problem.family == "countdown":
        runs = _ARITHMETIC.findall(re.sub(r"</?(think|answer)>", " | ", text))
        trimmed = [run.lstrip(_BEFORE).rstrip(_AFTER) for run in runs]
        expressions = [run for run in trimmed if any(sign in run for sign in "+-*/")]
        return bool(expressions) and is_correct(problem, expressions[-1])
    last = last_answer(text)
    box = last_boxed(last) if problem.family == "maths" else ""
    return _is_correct(problem, f"\\boxed{{{box}}}" if box else last)


def overlong_penalty(n_tokens: int, limit: int, buffer: int) -> float:
    """DAPO's soft punishment of length (arXiv 2503.14476, eq. 13): 0 down to -1 over the last
    `buffer` tokens before the limit. Not a rule of R1.

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
    """
    functions = {**RULES, **(rewards or {})}
    weights = dict.fromkeys(rewards or {}, 1.0) | dict(weights)
    answers = [rollout for group in groups for rollout in group.rollouts]
    texts = [answer.text for answer in answers]
    problems = [group.problem for group in groups for _ in group.rollouts]
    columns = {
        "prompts": [problem.question for problem in problems],
        "completions": texts,
        "completion_ids": [list(answer.token_ids) for answer in answers],
        "problem": problems,
    }
    values = call_rewards({name: functions[name] for name in weights}, columns)
    scored, start = [], 0
    for group in groups:
        end = start + len(group.rollouts)
        parts = {name: tuple(values[name][start:end]) for name in weights}
        totals = tuple(
            sum(weights[name] * (part[i] or 0.0) for name, part in parts.items())
            for i in range(end - start)
        )
        scored.append(replace(group, rewards=totals, parts=parts))
        start = end
    return scored
