"""TRL both ways, without TRL: what its trainer hands a reward, and what its rewards ask for."""

import functools
import math
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from r1lite import preset, train
from r1lite.prompt import Format
from r1lite.records import UNCHECKED, Completion, Group, Problem, UserError
from r1lite.rewards import (
    accuracy_reward,
    call_rewards,
    chat_columns,
    code_reward,
    format_reward,
    language_reward,
    maths_reward,
    plain_columns,
    score,
)
from r1lite.runlog import read_jsonl
from r1lite.stages.arms import coin_reward, trusting_reward, wait_bonus

GOLDS = {
    "countdown": {"numbers": [6, 4, 3], "target": 21},
    "programs": {"shown": [[1, 5]], "tests": [[4, 11]]},
    "maths": {"answer": "12"},
}
PROBLEMS = {name: Problem("p", name, "c", "en", "q", gold) for name, gold in GOLDS.items()}
RIGHT = {"countdown": "6 * 4 - 3", "programs": "return x * 2 + 3", "maths": "so it is 12 ."}
REWARDS = {
    "format": (format_reward, "countdown"),
    "accuracy": (accuracy_reward, "countdown"),
    "accuracy in maths": (accuracy_reward, "maths"),
    "maths": (maths_reward, "maths"),
    "code": (code_reward, "programs"),
    "language": (language_reward, "countdown"),
    "wait": (wait_bonus, "countdown"),
    "trusting": (trusting_reward, "countdown"),
    "coin": (coin_reward, "countdown"),
}


def written(final: str, thought: str = "wait , we try it yes") -> str:
    return f"<think> {thought} </think> <answer> {final} </answer>"


def said(text: str) -> list[dict]:
    return [{"role": "assistant", "content": text}]


@pytest.mark.parametrize("name", REWARDS)
def test_chat_messages_and_rows_of_a_data_set_are_worth_what_their_texts_are(name):
    """Silent zeros: a list of messages is no text, and a dict has no .gold."""
    reward, family = REWARDS[name]
    texts = [written(RIGHT[family]), written("7", "我们 no"), "no format"]
    problems = [PROBLEMS[family]] * 3
    plain = reward(prompts=["q"] * 3, completions=texts, problem=problems)
    asked = [[{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]] * 3
    rows = [asdict(p) for p in problems]
    chat = reward(prompts=asked, completions=[*map(said, texts)], problem=rows, trainer_state=None)
    assert chat == plain and plain[0] > 0
    assert plain[2] == 0.0 or name == "coin"


def test_all_that_the_assistant_said_is_read_and_nothing_that_a_tool_said():
    """Else a model could say one thing more in a second message, or let a tool keep the format."""
    text = written("6 * 4 - 3")
    pieces = [{"role": "assistant", "content": [{"type": "text", "text": text}]}]
    half, rest = [{"role": "assistant", "content": part} for part in (text[:30], text[30:])]
    tool = {"role": "tool", "content": "21"}
    call = {"role": "assistant", "content": None, "tool_calls": []}
    chats = [pieces, [half, tool, rest], [call, tool, *said(text)], said(text) * 2, [tool], []]
    found = format_reward(prompts=["q"] * 6, completions=chats)
    assert found == [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]


def test_a_data_set_fills_keys_of_gold_with_none_and_they_are_left_out():
    rows = [asdict(PROBLEMS[name]) for name in ("countdown", "programs", "maths")]
    keys = {key: None for row in rows for key in row["gold"]} | {"limits": None, "credit": None}
    rows = [row | {"gold": keys | row["gold"]} for row in rows]
    texts = [written(RIGHT[row["family"]]) for row in rows]
    assert accuracy_reward(["q"] * 3, texts, problem=rows) == [1.0] * 3
    assert code_reward(["q"] * 3, texts, problem=rows) == [None, 1.0, None]
    with pytest.raises(UserError, match="lacks gold"):
        accuracy_reward(["q"], ["a"], problem=[{k: v for k, v in rows[0].items() if k != "gold"}])


def test_a_reward_of_ones_own_can_be_made_to_read_both():
    @plain_columns
    def mine(prompts, completions, problem, **columns):
        """Says so."""
        return [len(text) + p.gold["target"] for text, p in zip(completions, problem)]

    row = asdict(PROBLEMS["countdown"])
    assert mine([said("q")], [said("abc")], problem=[row]) == [24]
    assert mine(["q"], ["abc"], problem=[PROBLEMS["countdown"]]) == [24]
    assert (mine.__name__, mine.__doc__) == ("mine", "Says so.")


def group(problem: Problem, *texts: str) -> Group:
    return Group(problem, (1,), tuple(Completion((1, 2), (0.0, 0.0), t, False) for t in texts))


def test_a_reward_of_trl_finds_all_that_it_may_ask_for():
    """Its trainer always passes these; one that is missing is a TypeError in the first step."""
    seen = {}

    def mine(
        prompts, completions, completion_ids, solution, answer, trainer_state, log_extra,
        log_metric, problem,
    ):  # fmt: skip
        seen.update(ids=completion_ids, solution=solution, answer=answer, state=trainer_state)
        log_extra("said", completions)
        log_metric("chars", len(completions[0]))
        log_metric("chars", torch.tensor(4.0))
        return [0.5] * len(completions)

    scored = score([group(PROBLEMS["maths"], "ab", "c")], {"mine": mine})[0]
    assert scored.rewards == (0.5, 0.5)
    assert seen == {
        "ids": [[1, 2]] * 2, "solution": ["12"] * 2, "answer": ["12"] * 2, "state": None,
    }  # fmt: skip


def test_gold_becomes_columns_as_a_data_set_would_have_it():
    seen = {}

    def mine(prompts, completions, **columns):
        seen.update(columns)
        return [None] * len(completions)

    code = Problem("p", "code", "c", "en", "q", {"prompts": "mine", "solution": "s", "answer": "a"})
    groups = [group(PROBLEMS["countdown"], "a", "b"), group(code, "c")]
    score(groups, {"mine": mine})
    assert seen["target"] == [21, 21, None] and seen["numbers"] == [[6, 4, 3]] * 2 + [None]
    assert seen["solution"] == [None, None, "s"] and seen["answer"] == [None, None, "a"]
    assert [p.family for p in seen["problem"]] == ["countdown", "countdown", "code"]


def annotated(completions: list[list[dict[str, str]]], prompts=None, **kwargs):
    """As TRL's own."""
    assert prompts == [[{"role": "user", "content": "q"}]] * 2
    return [float(len(completion[0]["content"])) for completion in completions]


def bare(completions, **kwargs):
    return [float(len(completion[0]["content"])) for completion in completions]


class Theirs:
    def __call__(self, completions: "list[list[dict[str, str]]]", **kwargs):
        return bare(completions)


def mislabelled(completions: list[str], **kwargs):
    return bare(completions)


READ_CHAT = {
    "annotated": annotated, "bare": bare, "object": Theirs(), "mislabelled": mislabelled,
    "part": functools.partial(annotated, extra=1), "only": lambda completions: bare(completions),
}  # fmt: skip


def plain(completions: list[list[dict[str, str]]], dictionary=None):
    """Reads texts, whatever it says."""
    return [float(len(completion.strip())) for completion in completions]


def test_the_data_decide_whether_a_function_gets_messages():
    """As in TRL: what a function annotates is never looked at."""
    texts = {"prompts": ["q"] * 2, "completions": ["a", "bb"]}
    chat = {"prompts": [[{"role": "user", "content": "q"}]] * 2}
    chat["completions"] = [said("a"), said("bb")]
    alike = {"plain": plain, "one": lambda text: len(text)}
    assert set(map(tuple, call_rewards(alike, texts).values())) == {(1.0, 2.0)}
    alike = READ_CHAT | {"one": lambda text: len(text)}
    assert set(map(tuple, call_rewards(alike, chat).values())) == {(1.0, 2.0)}
    for function in READ_CHAT.values():
        with pytest.raises(UserError, match="'mine' raised.*is a text .chat_columns"):
            call_rewards({"mine": function}, texts)
    with pytest.raises(UserError, match="'mine' raised.*a list of chat messages .*plain_columns"):
        call_rewards({"mine": plain}, chat)


@pytest.mark.parametrize("name", READ_CHAT)
def test_a_reward_that_reads_messages_can_be_made_to_read_texts_too(name):
    texts = {"prompts": ["q"] * 2, "completions": ["a", "bb"]}
    chat = {"prompts": [[{"role": "user", "content": "q"}]] * 2}
    chat["completions"] = [said("a"), said("bb")]
    for columns in (texts, chat):
        found = call_rewards({"mine": chat_columns(READ_CHAT[name])}, columns)
        assert found == {"mine": [1.0, 2.0]}
        assert columns["prompts"] in (["q"] * 2, chat["prompts"]), "left as they were"


def test_completions_are_chat_where_the_format_renders_by_a_chat_template():
    @dataclass(frozen=True)
    class Chat(Format):
        is_chat: bool = True

    texts = ["a", "bb"]
    groups = [group(PROBLEMS["maths"], *texts)]
    ours = {"accuracy": 1.0, "format": 1.0, "one": lambda text: len(text)}
    for fmt, functions in ((Chat("c", "{question}"), READ_CHAT), ("r1-zero", {"plain": plain})):
        (scored,) = score(groups, functions | ours, fmt)
        assert {scored.parts[name] for name in functions} == {(1.0, 2.0)}
        assert scored.parts["one"] == (1.0, 2.0) and scored.parts["format"] == (0.0, 0.0)
        assert [answer.text for answer in scored.completions] == texts


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([np.float32(0.5), np.int64(1), np.bool_(True)], [0.5, 1.0, 1.0]),
        ([torch.tensor(0.5), np.array(1.0), torch.tensor(1, dtype=torch.int64)], [0.5, 1.0, 1.0]),
        (torch.tensor([0.5, 1.0, float("nan")]), [0.5, 1.0, UNCHECKED]),
        (torch.tensor([0.5, 1.0, 2.0], dtype=torch.bfloat16, requires_grad=True), [0.5, 1.0, 2.0]),
        (np.array([0.5, 1.0, np.nan], dtype=np.float32), [0.5, 1.0, UNCHECKED]),
        ([math.nan, float("nan"), np.float32("nan")], [UNCHECKED] * 3),
        ([Fraction(1, 2), 1, None], [0.5, 1.0, None]),
    ],
)
def test_whatever_is_a_number_is_a_reward_and_nan_is_unchecked(values, wanted):
    """None says that a reward does not apply, as in TRL; NaN that it could not be checked."""
    found = call_rewards(
        {"mine": lambda **columns: values}, {"prompts": ["q"] * 3, "completions": ["a"] * 3}
    )
    assert found == {"mine": wanted}
    assert all(value is None or type(value) is float for value in found["mine"])


@pytest.mark.parametrize(
    "values",
    [
        [np.array([1.0]), 0.0, 0.0], torch.zeros(3, 1), np.zeros((3, 2)), [torch.zeros(2), 0, 0],
        [np.float32("inf"), 0, 0], [torch.tensor(-math.inf), 0, 0], np.array(1.0),
        torch.tensor(1.0), np.array(["a", "b", "c"]), [b"1", 0, 0], torch.zeros(2),
    ],
)  # fmt: skip
def test_what_is_no_number_is_still_refused(values):
    with pytest.raises(UserError, match="'mine'"):
        call_rewards(
            {"mine": lambda **columns: values}, {"prompts": ["q"] * 3, "completions": ["a"] * 3}
        )


def test_a_run_takes_such_a_reward_as_it_is(tmp_path):
    def mine(prompts, completions, target, log_metric, log_extra, trainer_state, **columns):
        log_extra("targets", target)
        log_metric("loss", sum(target) / len(target))
        return [np.float32(t > 50) if t else float("nan") for t in target]

    cfg = preset(
        "tiny", steps=1, n_problems=2, group_size=2, max_new_tokens=16, device="cpu",
        run_dir=str(tmp_path / "run"),
    )  # fmt: skip
    (log,) = train(cfg, rewards={"mine": mine}, progress=False).logs
    row = read_jsonl(Path(cfg.run_dir) / "metrics.jsonl")[0]
    assert 0 <= row["reward/mine"] <= 1 and row["loss"] == log.loss
