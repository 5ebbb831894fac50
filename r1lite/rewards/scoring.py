"""From what a user hands in to the rewards of groups."""

import functools
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from ..prompt import Format, get_format, parse
from ..records import UNCHECKED, Group, UserError, is_unchecked
from .calls import as_chat, call_all
from .reward import Reward, RewardFunction
from .rules import RULES


def as_rewards(
    given: Any = None, weights: Mapping[str, float] | None = None, also: Sequence[Reward] = ()
) -> list[Reward]:
    """Reward records of what a user hands in, then the rules of `weights` that none replaces.

    given    a function, or a list of functions and Reward records, or name -> function or Reward;
             a name with a number is the rule of that name with this weight. A function in a list is
             named after itself ("reward", "reward_2" without a name of its own)
    weights  name -> weight of the rules, and of functions (not of records) of these names; the
             paper adds accuracy and format with the same weight (v2, eq. 4). Others count once
    also     records that stand beside those given
    Raises UserError for what is no reward, and for two of one name.
    """
    weights, rewards = weights or {}, {}
    for name, reward in [
        *_named({} if given is None else given),
        *((record.name, record) for record in also),
    ]:
        if isinstance(reward, (int, float)) and name in RULES:
            reward = Reward(name, RULES[name], float(reward))
        elif not isinstance(reward, Reward):
            reward = Reward(name, reward, weights.get(name, 1.0))
        if name in rewards:
            raise UserError(f"two rewards are named {name!r}: give one of them another name.")
        rewards[name] = replace(reward, name=name)
    if unknown := [name for name in weights if name not in rewards and name not in RULES]:
        raise UserError(
            f"there is a weight for {', '.join(unknown)}, but no such reward: hand in one of that "
            "name, or leave the weight out."
        )
    rules = [Reward(name, RULES[name], w) for name, w in weights.items() if name not in rewards]
    return [*rewards.values(), *rules]


def _named(given: Any) -> list[tuple[str, Any]]:
    """(name, function, Reward or weight) of each that was handed in."""
    if isinstance(given, Mapping):
        return [*given.items()]
    if isinstance(given, str) or not isinstance(given, Sequence):
        given = [given]
    pairs, taken = [], {reward.name for reward in given if isinstance(reward, Reward)}
    for reward in given:
        if isinstance(reward, Reward):
            name = reward.name
        else:
            names = (f"{_name(reward)}_{i}".removesuffix("_1") for i in count(1))
            taken.add(name := next(name for name in names if name not in taken))
        pairs.append((name, reward))
    return pairs


def _name(function: RewardFunction) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    for name, rule in RULES.items():
        if function is rule:
            return name
    name = function.__name__ if inspect.isroutine(function) else type(function).__name__
    return "reward" if name == "<lambda>" else name


def call_rewards(rewards: Any, columns: Mapping[str, Any]) -> dict[str, list[float | None]]:
    """calls.call_all of what as_rewards takes: name -> one value for each completion."""
    return call_all(as_rewards(rewards), columns)


def score(groups: Sequence[Group], rewards: Any, fmt: str | Format = "r1-zero") -> list[Group]:
    """Fill in the rewards of groups, and the answers of their completions.

    rewards  Reward records, or what as_rewards makes them of
    fmt      the format that completions are read in; where it renders by a model's chat template,
             functions get chat messages, as from TRL's trainer

    The total is the sum of weight times value: see total. A function gets those of these that it
    has arguments for, as from TRL's trainer:
    prompts, completions   the questions and the completions
    completion_ids         the completions' tokens
    parsed                 the completions taken apart: an Answer each
    problem                the Problems, and each key of their gold as a column of that name, None
                           where a problem lacks it; `answer` also as `solution`, TRL's name for it
    log_extra, log_metric  functions of (name, values) and (name, number); what they are told is
                           dropped, as the log has the rewards' own values only
    trainer_state          None, as there is no such trainer
    """
    rewards, groups = as_rewards(rewards), parse(groups, fmt)
    problems = [group.problem for group in groups for _ in group.completions]
    completions = [completion for group in groups for completion in group.completions]
    keys = dict.fromkeys(key for problem in problems for key in problem.gold)
    columns = {key: [problem.gold.get(key) for problem in problems] for key in keys}
    if "answer" in columns:
        columns.setdefault("solution", columns["answer"])
    columns |= {
        "prompts": [problem.question for problem in problems],
        "completions": [completion.text for completion in completions],
        "completion_ids": [list(completion.token_ids) for completion in completions],
        "parsed": [completion.answer for completion in completions],
        "problem": problems,
        "trainer_state": None,
        "log_extra": lambda column, values: None,
        "log_metric": lambda name, value: None,
    }
    is_chat = getattr(get_format(fmt), "is_chat", False)
    values = call_all(rewards, as_chat(columns) if is_chat else columns)
    weights, scored, end = {reward.name: reward.weight for reward in rewards}, [], 0
    totals = [total({n: values[n][i] for n in weights}, weights) for i in range(len(completions))]
    for group in groups:
        start, end = end, end + len(group.completions)
        parts = {name: tuple(values[name][start:end]) for name in weights}
        scored.append(replace(group, rewards=tuple(totals[start:end]), parts=parts))
    return scored


def total(values: Mapping[str, float | None], weights: Mapping[str, float]) -> float:
    """What one answer is worth: the sum of weight times value of the rewards that apply to it.

    UNCHECKED where one of them could not be checked, or where none applies: what is not known is
    no 0. A reward of weight 0 is no part of it.
    """
    counted = [name for name, weight in weights.items() if weight]
    applied = [weights[n] * value for n in counted if (value := values[n]) is not None]
    is_unknown = any(map(is_unchecked, applied)) or (counted and not applied)
    return UNCHECKED if is_unknown else sum(applied, 0.0)
