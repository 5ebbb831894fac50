"""The same work in TRL's GRPOTrainer: same model, prompts, order, group, lengths and optimizer."""

import tempfile
import time
from collections.abc import Callable
from math import inf
from statistics import mean, median, stdev
from typing import Any

from r1lite.config import RunConfig
from r1lite.evaluation import grade
from r1lite.lab.bench import timed_run
from r1lite.learn import train
from r1lite.learn.rollout import draw_problems
from r1lite.policy import Policy, load_policy
from r1lite.prompt import render
from r1lite.records import UserError
from r1lite.rewards import accuracy_reward, format_reward
from r1lite.stages.held_out import held_out, sample_for_eval

DEFAULT_ROWS = 8  # answers per forward pass, as GRPOConfig has it
TRIED_ROWS = (8, 16, 32, 64, 256)


def timed_trl(
    cfg: RunConfig,
    rows: int,
    *,
    tuned: bool = True,
    is_done: Callable[[Any, int], bool] | None = None,
) -> list[dict[str, float]]:
    """Train cfg.steps steps in TRL; returns step seconds and mean reward of each.

    rows     answers per forward pass; they are gathered until the rollout is complete
    tuned    False leaves bf16 and gradient checkpointing at TRL's defaults (both on)
    is_done  called with (model, step) after each step, outside the clock; True ends the run
    Raises UserError where TRL is not installed.
    """
    try:
        from datasets import Dataset
        from peft import LoraConfig
        from transformers import TrainerCallback
        from trl import GRPOConfig, GRPOTrainer
    except ImportError as error:
        raise UserError(
            f"{error.name} is not installed: comparing with TRL needs the packages of "
            "requirements-test.txt. Run `make setup-deep`, then use .venv-deep/bin/python."
        ) from error
    problems = [p for step in range(cfg.steps) for p in draw_problems(cfg, step)]
    by_prompt = {render(p.question, cfg.template): p for p in problems}
    rewards: list[float] = []

    def reward(prompts, completions, **columns):
        columns["problem"] = [by_prompt[prompt] for prompt in prompts]
        right = accuracy_reward(prompts, completions, **columns)
        kept = format_reward(prompts, completions, **columns)
        total = [
            cfg.accuracy_weight * a + cfg.format_weight * f
            for a, f in zip(right, kept, strict=True)
        ]
        rewards.append(mean(total))
        return total

    marks: list[float] = []

    class Marks(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            marks.append(time.perf_counter())

        def on_step_end(self, args, state, control, model=None, **kwargs):
            marks.append(time.perf_counter())
            if is_done and is_done(model, state.global_step):
                control.should_training_stop = True

    alike = {
        "bf16": cfg.dtype == "bfloat16",
        "gradient_checkpointing": cfg.gradient_checkpointing,
    }
    adapter = LoraConfig(
        r=cfg.lora_rank, lora_alpha=cfg.lora_alpha, target_modules="all-linear",
        task_type="CAUSAL_LM",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            model=cfg.model,
            peft_config=None if cfg.tuning == "full" else adapter,
            reward_funcs=[reward],
            args=GRPOConfig(
                output_dir=folder,
                max_steps=cfg.steps,
                per_device_train_batch_size=rows,
                gradient_accumulation_steps=cfg.n_problems * cfg.group_size // rows,
                num_generations=cfg.group_size,
                max_completion_length=cfg.max_new_tokens,
                temperature=cfg.temperature,
                top_p=1.0,
                top_k=0,
                beta=cfg.beta,
                epsilon=cfg.clip_epsilon,
                loss_type="grpo",
                learning_rate=cfg.learning_rate,
                lr_scheduler_type="constant_with_warmup",
                warmup_steps=cfg.warmup_steps,
                weight_decay=0.0,
                max_grad_norm=cfg.max_grad_norm,
                seed=cfg.seed,
                model_init_kwargs={"dtype": cfg.dtype},
                **(alike if tuned else {}),
                shuffle_dataset=False,
                use_cpu=cfg.device == "cpu",
                report_to=[],
                save_strategy="no",
                logging_steps=10**6,
                disable_tqdm=True,
            ),
            train_dataset=Dataset.from_list(
                [{"prompt": render(p.question, cfg.template)} for p in problems]
            ),
            callbacks=[Marks()],
        )
        trainer.train()
    n_steps = len(marks) // 2
    per_step = len(rewards) // n_steps
    return [
        {
            "step_s": marks[2 * i + 1] - marks[2 * i],
            "reward": mean(rewards[i * per_step : (i + 1) * per_step]),
        }
        for i in range(n_steps)
    ]


def same_learning(cfg: RunConfig, rows: int, steps: int = 20) -> dict[str, Any]:
    """Reward against samples in both: the difference over the last half, in standard errors."""
    cfg = cfg.change(steps=steps)
    ours = [row["reward"] for row in timed_run(cfg)]
    theirs = [row["reward"] for row in timed_trl(cfg, rows)]
    late, late_trl = ours[steps // 2 :], theirs[steps // 2 :]
    error = (stdev(late) ** 2 / len(late) + stdev(late_trl) ** 2 / len(late_trl)) ** 0.5
    gap = mean(late) - mean(late_trl)
    off = gap / error if error else 0.0  # random weights are never rewarded, in either
    return {"ours": ours, "trl": theirs, "gap": gap, "gap_in_standard_errors": off}


def against_trl(cfg: RunConfig, *, rounds: int = 5) -> dict[str, Any]:
    """Step seconds of ours with and without fast/, TRL's tuned and default, interleaved; medians
    over the rounds."""
    short = cfg.change(steps=3)
    answers = cfg.n_problems * cfg.group_size
    rows = [n for n in TRIED_ROWS if n <= answers]
    tried = {n: min(r["step_s"] for r in timed_trl(short, n)) for n in rows}
    best = min(tried, key=tried.get)
    print(f"TRL's best batch: {best} answers a pass ({tried})", flush=True)
    learning = same_learning(cfg, best)
    print(f"gap of rewards: {learning['gap']:+.3f}", flush=True)
    if abs(learning["gap_in_standard_errors"]) > 3:
        raise UserError(
            f"the rewards of the two trainers differ by {learning['gap']:.3f}, which is "
            f"{learning['gap_in_standard_errors']:.1f} standard errors: they do not do the same "
            "work, so their times cannot be compared. Compare their settings first."
        )
    arms = ("ours", "ours_plain", "trl_tuned", "trl_default")
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds):
        runs = {
            "ours": [row["seconds"]["step"] for row in timed_run(short)],
            "ours_plain": [r["seconds"]["step"] for r in timed_run(short.change(fast=False))],
            "trl_tuned": [r["step_s"] for r in timed_trl(short, best)],
            "trl_default": [r["step_s"] for r in timed_trl(short, DEFAULT_ROWS, tuned=False)],
        }
        for name, steps in runs.items():
            seconds[name].append(median(steps[1:]))  # the first pays for what is made only once
        print({name: round(values[-1], 2) for name, values in seconds.items()}, flush=True)
    middle = {name: median(values) for name, values in seconds.items()}
    return {
        "rounds": seconds,
        "median_step_s": middle,
        "faster_than_tuned": middle["trl_tuned"] / middle["ours"],
        "plain_faster_than_tuned": middle["trl_tuned"] / middle["ours_plain"],
        "faster_than_default": middle["trl_default"] / middle["ours"],
        "trl_rows": best,
        "trl_tried": tried,
        "learning": learning,
    }


def seconds_to(
    cfg: RunConfig, threshold: float, rows: int, *, every: int = 4, n_problems: int = 80
) -> dict[str, Any]:
    """Training seconds from the base to a held-out pass@1, ours and TRL's; evaluations apart.

    every  updates between evaluations (k 8, the paper's sampling); a run that has not got there
           after cfg.steps counts as infinite
    """
    problems = held_out(cfg.family, n_problems)
    tokenizer = load_policy(cfg.model, device=cfg.device).tokenizer

    def reached(model: Any, step: int) -> bool:
        policy = Policy(model, tokenizer, model.config.max_position_embeddings)
        return (
            step % every == 0
            and grade(sample_for_eval(policy, cfg, problems, k=8)).pass_at_1 >= threshold
        )

    with tempfile.TemporaryDirectory() as folder:
        ours, there = 0.0, False
        for target in range(every, cfg.steps + 1, every):
            begun = time.perf_counter()
            result = train(cfg.change(steps=target, run_dir=folder), progress=False)
            ours += time.perf_counter() - begun
            if there := reached(result.policy.model, target):
                break
    found = {"seed": cfg.seed, "ours_s": ours if there else inf, "ours_steps": target}
    marks: list[bool] = []

    def is_done(model: Any, step: int) -> bool:
        marks.append(reached(model, step))
        return marks[-1]

    theirs = sum(step["step_s"] for step in timed_trl(cfg, rows, is_done=is_done))
    return found | {"trl_s": theirs if marks[-1] else inf, "trl_steps": len(marks)}
