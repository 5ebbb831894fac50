"""Supervised fine-tuning: the next token of given texts, on the same harness as GRPO.

texts -> tokens -> batch -> loss -> step -> log. The loss is the mean of -log p over the trained
tokens: the same log-probabilities that the policy gradient weighs with advantages.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from .. import dist
from ..config import SftConfig
from ..policy.load import Policy
from ..records import StepLog, UserError, is_text
from ..world import file_rows, keyed_order
from .batching import Row
from .identity import identity_of
from .models import load_for
from .optimizer import make_optimizer, optimizer_step
from .run import Hook, Result, Run
from .update import loss_scale, micro_batch, prepare, unscale

# The texts of update `step` (from 0): what a stage that makes its own documents hands in.
Source = Callable[[int], Sequence[Row]]


def train_sft(
    cfg: SftConfig,
    examples: Sequence[Any] | Source | None = None,
    *,
    policy: Policy | None = None,
    optimizers: Callable[[Policy], list[torch.optim.Optimizer]] | None = None,
    hooks: Sequence[Hook] = (),
    stage: str = "sft",
    progress: bool = True,
    on_step: Callable[[StepLog], None] | None = None,
) -> Result:
    """Train a policy on texts; resumes by itself if the run's folder holds a checkpoint of it.

    examples    {"prompt", "completion"} or {"text"} rows, in place of those in the file cfg.data;
                or a function of the step (from 0) that gives the tokenised rows of its batch
    policy      a policy in memory in place of cfg.model; a copy is trained
    optimizers  makes them, in place of optimizer.make_optimizer: each with its peak learning rate
    Others as for grpo.train. What is trained on of a row, cfg.train_on says: the completion and the
    stop token, or "all" of it after its first token; of a {"text"} row always all.
    Raises UserError where a setting, a row or a checkpoint is wrong, RunStopped on a NaN.
    """
    given = examples if callable(examples) else read_examples(cfg, examples)
    identity = identity_of(cfg, examples=given, policy=policy and policy.model)
    with Run(cfg, stage, identity, hooks=hooks, progress=progress, on_step=on_step) as run:
        policy = load_for(cfg, run.checkpoint, policy)
        source = given if callable(given) else batches(cfg, tokenise(policy, given, cfg))
        made = optimizers(policy) if optimizers else [make_optimizer(policy, cfg)]
        sft(run, cfg, policy, source, made)
        return run.result()


def sft(
    run: Run,
    cfg: SftConfig,
    policy: Policy,
    source: Source,
    optimizers: Sequence[torch.optim.Optimizer],
) -> None:
    """The loop itself."""
    names = ["optimizer", *(f"optimizer_{i}" for i in range(2, len(optimizers) + 1))]
    run.keep(policy=policy, **dict(zip(names, optimizers)))
    for step in run.rollouts():
        batch = source(step - 1)
        loss = sft_backward(policy, batch, cfg)
        norm = optimizer_step(policy, optimizers, cfg, step)
        run.log(**loss | norm)


def sft_backward(policy: Policy, rows: Sequence[Row], cfg: SftConfig) -> dict[str, float]:
    """Mean cross-entropy (nats) over all trained tokens of the rows, its gradient on the weights.

    A sum over tokens divided once by their number: micro-batches and processes change nothing. The
    mean of the micro-batches' means would weigh a token of a short text more.
    """
    n_tokens = sum(len(row.answer_ids) for row in rows)
    chunks, scorer = prepare(policy, policy.model, rows, cfg)
    scale, total = loss_scale(policy, cfg, n_tokens), 0.0
    for chunk, weight in chunks:
        part, batch = micro_batch(policy, rows, chunk)
        loss = -weight * scorer.of(part, batch).sum() / n_tokens
        (loss * scale).backward()
        total += loss.item()
    scorer.backward()
    unscale(policy, cfg, scale)
    sums = {"loss": total, "tokens_trained": scorer.n_real, "tokens_computed": scorer.n_computed}
    return dist.all_reduce_sum(sums)


def read_examples(cfg: SftConfig, rows: Sequence[Any] | None) -> list[dict[str, str]]:
    """The rows handed in, or those of the file cfg.data (world.file_rows), checked."""
    if rows is None and not cfg.data:
        raise UserError(
            "there is nothing to train on: set data= to a .jsonl file, or hand in examples=, with "
            "rows of prompt and completion, or of text."
        )
    where = "examples" if rows is not None else cfg.data
    examples = []
    for number, row in enumerate(file_rows(Path(cfg.data)) if rows is None else rows, start=1):
        cells = dict(row) if isinstance(row, Mapping) else {"no columns but": row}
        is_pair = isinstance(cells.get("prompt"), str) and is_text(cells.get("completion"))
        if not is_pair and not is_text(cells.get("text")):
            shown = ", ".join(f"{name} {cell!r:.40}" for name, cell in cells.items())
            raise UserError(
                f"{where}, row {number} has {shown or 'no columns'}: a row needs the texts prompt "
                "and completion, or text, and they must say something. Correct it or leave it out."
            )
        names = ("prompt", "completion") if is_pair else ("text",)
        examples.append({name: cells[name] for name in names})
    if not examples:
        raise UserError(f"{where} holds no rows: at least one is needed.")
    return examples


def tokenise(policy: Policy, examples: Sequence[dict[str, str]], cfg: SftConfig) -> list[Row]:
    """Rows of token ids; what is trained is answer_ids, with the stop token.

    Raises UserError for a row that does not fit the model's context.
    """
    rows = []
    for number, example in enumerate(examples, start=1):
        prompt = policy.encode(example["prompt"]) if "prompt" in example else []
        rest = policy.encode(example["completion" if "prompt" in example else "text"], not prompt)
        ids = [*prompt, *rest] if rest[-1] in policy.stop_ids else [*prompt, *rest, policy.stop_id]
        if len(ids) > policy.max_length:
            raise UserError(
                f"example {number} has {len(ids)} tokens: the model's context holds "
                f"{policy.max_length}. Cut it, or leave it out."
            )
        n_prompt = len(prompt) if prompt and cfg.train_on == "answers" else 1
        rows.append(Row(ids[:n_prompt], ids[n_prompt:]))
    return rows


def batches(cfg: SftConfig, rows: Sequence[Row]) -> Source:
    """Every row once an epoch, in an order that the seed and the epoch decide alone."""

    def batch(step: int) -> list[Row]:
        places = range(step * cfg.batch_size, (step + 1) * cfg.batch_size)
        return [rows[keyed_order(n, "sft", cfg.seed, i // n)[i % n]] for i in places]

    n = len(rows)
    return batch
