"""Our rewards inside TRL's trainer: the signatures really fit."""

import pytest
import torch

from r1lite import accuracy_reward, format_reward, make_problems, render

pytestmark = pytest.mark.deep


def test_rewards_train_inside_trl(tmp_path):
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    problems = make_problems("countdown", "train", 8)
    by_prompt = {render(p.question, "tiny"): p for p in problems}
    seen = []

    def accuracy(prompts, completions, **columns):
        columns["problem"] = [by_prompt[prompt] for prompt in prompts]
        seen.append(accuracy_reward(prompts, completions, **columns))
        return seen[-1]

    trainer = GRPOTrainer(
        model="data/tiny-base",
        reward_funcs=[accuracy, format_reward],
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
    assert seen and all(len(values) == 8 for values in seen)
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
