"""Our rewards inside TRL's trainer and TRL's in ours: the signatures really fit."""

import asyncio
from pathlib import Path

import pytest
import torch

from r1lite import accuracy_reward, format_reward, make_problems, preset, render, train
from r1lite.rewards import call_rewards, language_reward
from r1lite.runlog import read_jsonl

pytestmark = pytest.mark.deep


def test_rewards_train_inside_trl(tmp_path):
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    problems = make_problems("countdown", "train", 8)
    by_prompt = {render(p.question, "tiny"): p for p in problems}
    seen = {"accuracy": [], "language": []}

    def accuracy(prompts, completions, **columns):
        columns["problem"] = [by_prompt[prompt] for prompt in prompts]
        seen["accuracy"].append(accuracy_reward(prompts, completions, **columns))
        return seen["accuracy"][-1]

    def language(prompts, completions, **columns):
        columns["problem"] = [by_prompt[prompt] for prompt in prompts]
        seen["language"].append(language_reward(prompts, completions, **columns))
        return seen["language"][-1]

    trainer = GRPOTrainer(
        model="data/tiny-base",
        reward_funcs=[accuracy, format_reward, language],
        args=GRPOConfig(
            output_dir=str(tmp_path),
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
        train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in by_prompt]),
    )
    before = [p.detach().clone() for p in trainer.model.parameters()]
    trainer.train()
    after = list(trainer.model.parameters())
    for values in seen.values():
        assert values and all(len(row) == 8 for row in values)
    assert any(value for row in seen["language"] for value in row)
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


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


def test_trl_style_rewards_train_here(tmp_path):
    """One of TRL's own, one in its signature and one that is async, for two steps."""
    from trl.rewards import get_soft_overlong_punishment

    asked = []

    def short_words(prompts, completions, **kwargs):
        asked.append(sorted(kwargs))
        return [sum(len(w) < 3 for w in text.split()) / 50 for text in completions]

    async def judge(prompts, completions, completion_ids, **kwargs):
        await asyncio.sleep(0.01)
        return [len(ids) / 48 if i % 4 else None for i, ids in enumerate(completion_ids)]

    cfg = preset(
        "tiny", steps=2, n_problems=4, n_answers=4, max_new_tokens=48, warmup_steps=0,
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
    for row in rows:
        assert row["unchecked"] == 0.25
        assert 0 < row["reward/short"] < 1 and 0 < row["reward/judge"] <= 1
        assert -1 <= row["reward/overlong"] <= 0
        whole = row["accuracy"] + cfg.reward_weights["format"] * row["format"]
        whole += row["reward/short"] + row["reward/overlong"]
        assert row["reward"] == pytest.approx(whole + 0.75 * row["reward/judge"])
    assert asked == [["completion_ids", "problem"]] * 2


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_the_same_work_is_timed_in_trl(tuning):
    """What `bench --against trl` compares with, also for an adapter."""
    from r1lite.lab.bench_trl import timed_trl

    cfg = preset(
        "tiny", n_problems=2, n_answers=4, max_new_tokens=16, steps=2, tuning=tuning, lora_rank=4,
        device="cpu",
    )  # fmt: skip
    for tuned in (True, False):
        steps = timed_trl(cfg, rows=8, tuned=tuned)
        assert len(steps) == 2 and all(step["step_s"] > 0 for step in steps)
