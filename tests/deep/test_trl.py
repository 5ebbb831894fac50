"""Our rewards inside TRL's trainer and TRL's in ours: the signatures really fit."""

import asyncio
import functools
import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from r1lite import accuracy_reward, format_reward, make_problems, preset, render, train
from r1lite.learn import rollout as learn_rollout
from r1lite.records import Problem
from r1lite.rewards import call_rewards, chat_columns, code_reward, language_reward, maths_reward
from r1lite.runlog import read_jsonl
from r1lite.world.countdown import solutions

pytestmark = pytest.mark.deep


def watched(reward, seen: list):
    """The reward itself; what it gave is kept. Nothing that it is handed is touched."""

    @functools.wraps(reward)
    def called(*args, **kwargs):
        seen.append((kwargs, reward(*args, **kwargs)))
        return seen[-1][1]

    return called


def trained_by_trl(problems, rewards, prompt_of, folder):
    """Two steps of TRL's trainer on a data set of problems; returns name -> what was given.

    One reward more pays every second answer, so that each group teaches something.
    """
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    tokenizer = AutoTokenizer.from_pretrained("data/tiny-base")
    tokenizer.chat_template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    rows = [{"prompt": prompt_of(p), "problem": asdict(p)} for p in problems]
    seen = {reward.__name__: [] for reward in rewards}

    def every_second(completions, **columns):
        return [float(i % 2) for i in range(len(completions))]

    trainer = GRPOTrainer(
        model="data/tiny-base",
        reward_funcs=[
            *(watched(reward, seen[reward.__name__]) for reward in rewards),
            every_second,
        ],
        args=GRPOConfig(
            output_dir=str(folder),
            max_steps=2,
            per_device_train_batch_size=8,
            num_generations=4,
            max_completion_length=64,
            bf16=False,
            gradient_checkpointing=False,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    before = [p.detach().clone() for p in trainer.model.parameters()]
    trainer.train()
    after = list(trainer.model.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(len(calls) == 2 for calls in seen.values())
    return seen


@pytest.mark.parametrize("chat", [False, True], ids=["texts", "chat messages"])
@pytest.mark.parametrize("family", ["countdown", "programs", "maths"])
def test_rewards_train_inside_trl(family, chat, tmp_path, monkeypatch):
    """As they are, on a data set whose `problem` column Dataset has made dicts of. Every value is
    what the text alone is worth; every second answer is replaced by a right one, as the base is
    too seldom right for zeros to be noticed."""
    from trl import GRPOTrainer

    problems = made(family)
    rewards = [accuracy_reward, format_reward, language_reward]
    rewards += {"programs": [code_reward], "maths": [maths_reward]}.get(family, [])
    real = GRPOTrainer._calculate_rewards

    def helped(self, inputs, prompts, completions, ids):
        for i in range(0, len(completions), 2):
            row = inputs[i]["problem"]
            thought = {"en": "we try it", "zh": "等等 , 检查"}[row["language"]]
            right = f"<think> {thought} </think> <answer> {answered(row)} </answer>"
            completions[i] = [{"role": "assistant", "content": right}] if chat else right
        return real(self, inputs, prompts, completions, ids)

    monkeypatch.setattr(GRPOTrainer, "_calculate_rewards", helped)

    def prompt_of(p):
        text = render(p.question, "tiny")
        return [{"role": "user", "content": text}] if chat else text

    seen = trained_by_trl(problems, rewards, prompt_of, tmp_path)
    by_id = {p.problem_id: p for p in problems}
    for reward in rewards:
        for columns, values in seen[reward.__name__]:
            texts = [c[0]["content"] if chat else c for c in columns["completions"]]
            assert isinstance(columns["problem"][0], dict) and isinstance(texts[0], str)
            asked = [by_id[row["problem_id"]] for row in columns["problem"]]
            assert values == reward(texts, texts, problem=asked)
            assert values[::2] == [1.0] * 4, reward.__name__
            assert len(values) == 8


def made(family: str) -> list[Problem]:
    if family == "maths":
        return [
            Problem(f"m{n}", "maths", "c", "en", f"make {n}", {"answer": str(n)}) for n in (3, 7)
        ]
    return make_problems(family, "train", 8)


def answered(row: dict) -> str:
    """A right answer to a problem, from its row."""
    if row["family"] == "countdown":
        numbers = tuple(sorted(row["gold"]["numbers"]))
        return solutions(numbers)[row["gold"]["target"]][0]
    return row["gold"]["answer"] if row["family"] == "maths" else f"return {row['cluster']}"


def test_trls_own_rewards_are_called_as_they_are():
    """They read chat messages, the ids of tokens and a column of solutions."""
    from trl.rewards import accuracy_reward as trl_accuracy
    from trl.rewards import (
        get_repetition_penalty_reward,
        get_soft_overlong_punishment,
        think_format_reward,
    )

    texts = [r"<think> a </think> \boxed{\frac{1}{3}}", r"\boxed{\frac{1}{2}}"]
    found = call_rewards(
        {
            "format": think_format_reward,
            "accuracy": trl_accuracy,
            "overlong": get_soft_overlong_punishment(max_completion_len=100, soft_punish_cache=20),
            "repetition": get_repetition_penalty_reward(ngram_size=2),
        },
        {
            "prompts": ["q", "q"],
            "completions": [[{"role": "assistant", "content": text}] for text in texts],
            "completion_ids": [list(range(90)), [7] * 200],
            "solution": [r"\frac{1}{3}", r"\frac{1}{3}"],
        },
    )
    assert found["format"] == [1.0, 0.0] and found["accuracy"] == [1.0, 0.0]
    assert found["overlong"] == [-0.5, -1.0]
    assert found["repetition"][0] == 0.0 and found["repetition"][1] < -0.9


def test_trl_style_rewards_train_here(tmp_path, monkeypatch):
    """One of TRL's own, one in its signature and one that is async, for two steps."""
    from trl.rewards import get_soft_overlong_punishment

    asked, totals, real = [], [], learn_rollout.score

    def by_hand(groups, rewards, fmt):
        """The totals of the answers that the judge could check, from the parts."""
        scored, weights = real(groups, rewards, fmt), {r.name: r.weight for r in rewards}
        for group in scored:
            for i in range(len(group.completions)):
                parts = [weight * group.parts[name][i] for name, weight in weights.items()]
                totals.append(sum(parts))
        return scored

    monkeypatch.setattr(learn_rollout, "score", by_hand)

    def short_words(prompts, completions, **kwargs):
        asked.append(sorted(kwargs))
        return [sum(len(w) < 3 for w in text.split()) / 50 for text in completions]

    async def judge(prompts, completions, completion_ids, **kwargs):
        await asyncio.sleep(0.01)
        return [len(ids) / 48 if i % 4 else math.nan for i, ids in enumerate(completion_ids)]

    cfg = preset(
        "tiny", steps=2, n_problems=4, group_size=4, max_new_tokens=48, warmup_steps=0,
        device="cpu", run_dir=str(tmp_path / "run"),
    )  # fmt: skip
    rewards = {
        "short": short_words,
        "judge": judge,
        "overlong": get_soft_overlong_punishment(48, 24),
    }
    result = train(cfg, rewards=rewards, progress=False)
    assert len(result.logs) == 2 and all(log.grad_norm > 0 for log in result.logs)
    rows = read_jsonl(Path(cfg.run_dir) / "metrics.jsonl")
    for row, every in zip(rows, (totals[:16], totals[16:]), strict=True):
        assert row["unchecked"] == 0.25
        assert 0 < row["reward/short"] < 1 and 0 < row["reward/judge"] <= 1
        assert -1 <= row["reward/overlong"] <= 0
        judged = [total for total in every if not math.isnan(total)]
        assert len(every) == 16 and len(judged) == 12
        assert row["reward"] == pytest.approx(sum(judged) / 12)
    always = ["completion_ids", "log_extra", "log_metric", "parsed", "problem", "trainer_state"]
    assert asked == [sorted([*always, "numbers", "target"])] * 2  # and each key of gold


def test_trls_accuracy_and_others_train_here(tmp_path, monkeypatch):
    """They read chat messages, a column of solutions, and log by themselves."""
    from trl.rewards import accuracy_reward as trl_accuracy
    from trl.rewards import get_cosine_scaled_reward, reasoning_accuracy_reward, think_format_reward

    rows = [
        {"problem_id": f"m{n}", "family": "maths", "cluster": f"c{n}", "language": "en",
         "question": f"make {n}", "gold": {"answer": str(n)}}
        for n in range(2, 6)
    ]  # fmt: skip
    path = tmp_path / "problems.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    cfg = preset(
        "tiny", problems=str(path), steps=2, n_problems=4, group_size=4, max_new_tokens=48,
        warmup_steps=0, device="cpu", run_dir=str(tmp_path / "run"),
    )  # fmt: skip
    real, texts = learn_rollout.score, []

    def helped(groups, rewards, fmt):
        """Half of the answers made right, in TRL's form: the base knows no box."""
        groups = [
            replace(g, completions=tuple(
                replace(a, text=f"<think> a </think> \\boxed{{{g.problem.gold['answer']}}}")
                if i % 2 else a for i, a in enumerate(g.completions)
            ))
            for g in groups
        ]  # fmt: skip
        texts.extend(a.text for g in groups for a in g.completions)
        return real(groups, rewards, fmt)

    monkeypatch.setattr(learn_rollout, "score", helped)
    theirs = {
        "accuracy": chat_columns(trl_accuracy),
        "reasoning": chat_columns(reasoning_accuracy_reward),
        "cosine": chat_columns(get_cosine_scaled_reward(max_len=48)),
        "format": chat_columns(think_format_reward),
    }
    result = train(cfg, rewards=theirs, progress=False)
    assert len(texts) == 32 and all(log.grad_norm > 0 for log in result.logs)
    for row in read_jsonl(Path(cfg.run_dir) / "metrics.jsonl"):
        assert row["accuracy"] == row["reward/reasoning"] == 0.5 and row["unchecked"] == 0.0
        assert row["format"] >= 0.5 and -1 < row["reward/cosine"] < 1


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_the_same_work_is_timed_in_trl(tuning):
    """What `bench --against trl` compares with, also for an adapter."""
    from speed.trl import timed_trl

    cfg = preset(
        "tiny", n_problems=2, group_size=4, max_new_tokens=16, steps=2, tuning=tuning, lora_rank=4,
        device="cpu",
    )  # fmt: skip
    for tuned in (True, False):
        steps = timed_trl(cfg, rows=8, tuned=tuned)
        assert len(steps) == 2 and all(step["step_s"] > 0 for step in steps)
