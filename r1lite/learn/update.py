"""One policy update: rows with advantages -> micro-batches -> loss -> optimizer step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..config import RunConfig
from ..policy.load import Policy
from ..policy.logprobs import token_logps
from ..policy.prompts import SharedPrompts, shares_prompts
from ..policy.savings import saves
from ..records import Group
from ..world import keyed_rng
from .batching import Batch, Row, to_batch, to_rows, token_budget_chunks
from .objective import group_advantages, grpo_terms


def make_optimizer(policy: Policy, cfg: RunConfig) -> torch.optim.Optimizer:
    """AdamW without weight decay, as nothing but reward should move a weight."""
    trainable = [p for p in policy.model.parameters() if p.requires_grad]
    return torch.optim.AdamW(trainable, lr=cfg.learning_rate, weight_decay=0.0, fused=True)


def minibatches(groups: Sequence[Group], cfg: RunConfig, step: int) -> list[list[Row]]:
    """Rows with their advantages, cut into updates; more than one are shuffled first.

    Advantages come before the shuffle, which scatters the groups.
    """
    rewards = torch.tensor([group.rewards for group in groups], dtype=torch.float32)  # (P, G)
    rows = to_rows(groups, group_advantages(rewards, scale=cfg.advantage_scale))
    size = len(rows) // cfg.n_minibatches
    batches = []
    for epoch in range(cfg.inner_epochs):
        if cfg.n_minibatches > 1:
            keyed_rng("shuffle", cfg.seed, step, epoch).shuffle(rows)
        batches += [rows[i : i + size] for i in range(0, len(rows), size)]
    return batches


# Sharing a prompt needs a mask of answer x (prompt + answer), which grows with the square of the
# length; the plain pass needs none. Beyond this many tokens the mask would cost more than it saves.
SHARE_UP_TO = 2048


class AnswerLogps:
    """Log-probabilities of answers under a model as it is now, its prompts read only once.

    n_real, n_computed  tokens that went through the model so far, without and with padding
    """

    def __init__(self, model: Any, rows: Sequence[Row], pad_id: int, temperature: float):
        self.model, self.temperature, self.shared = model, temperature, None
        short = rows and max(map(len, rows)) <= SHARE_UP_TO
        if short and saves("prompt_once_in_training") and shares_prompts(model):
            self.shared = SharedPrompts(model, [tuple(row.prompt_ids) for row in rows], pad_id)
        mask = self.shared.mask if self.shared else torch.zeros(0)
        self.n_real, self.n_computed = int(mask.sum()), mask.numel()

    def of(self, rows: Sequence[Row], batch: Batch) -> torch.Tensor:
        """(B, L-1), 0 outside the answers; batch holds the same rows."""
        lengths = [len(row.answer_ids) if self.shared else len(row) for row in rows]
        self.n_real += sum(lengths)
        self.n_computed += len(rows) * max(lengths)
        if self.shared is None:
            mask = batch.response_mask
            return token_logps(
                self.model, batch.token_ids, temperature=self.temperature, response_mask=mask
            )
        return self.shared.token_logps(
            [tuple(row.prompt_ids) for row in rows],
            batch.token_ids,
            batch.response_mask,
            temperature=self.temperature,
        )

    def backward(self) -> None:
        """The last part of the gradient, after the backward of every micro-batch."""
        if self.shared is not None:
            self.shared.backward()


def update(
    policy: Policy,
    rows: Sequence[Row],
    optimizer: torch.optim.Optimizer,
    cfg: RunConfig,
    step: int,
    reference: torch.nn.Module | None = None,
) -> dict[str, float | int]:
    """One policy update on a mini-batch of answers.

    Returns its part of the StepLog, and tokens_trained and tokens_computed: tokens that went
    through its forward passes, without and with padding.

    The loss is a sum over answers divided by their number before any is dropped, so micro-batches
    and dropping change nothing. Answers without an advantage are dropped when beta is 0: their
    gradient is exactly 0.
    """
    drop = saves("drop_equal_groups") and not cfg.beta
    taught = [row for row in rows if row.advantage != 0.0 or not drop]
    answers = AnswerLogps(policy.model, taught, policy.pad_id, cfg.temperature)
    if reference is not None:
        with torch.no_grad():
            reference_answers = AnswerLogps(reference, taught, policy.pad_id, cfg.temperature)
    totals = {"loss": 0.0, "kl": 0.0, "n_clipped": 0.0, "sampler_gap": 0.0}
    for chunk in token_budget_chunks([len(row) for row in taught], cfg.micro_batch_tokens):
        part = [taught[i] for i in chunk]
        batch = to_batch(part, policy.pad_id).to(policy.device)
        logp_new = answers.of(part, batch)
        logp_ref = None
        if reference is not None:
            with torch.no_grad():
                logp_ref = reference_answers.of(part, batch)
        terms = grpo_terms(
            logp_new,
            batch.logp_old,
            batch.advantages,
            batch.response_mask,
            clip_epsilon=cfg.clip_epsilon,
            beta=cfg.beta,
            logp_ref=logp_ref,
            form=cfg.form,
        )
        loss = terms.per_answer.sum() / len(rows)
        loss.backward()
        gap = ((logp_new.detach() - batch.logp_old) * batch.response_mask).abs().max().item()
        totals["loss"] += loss.item()
        totals["kl"] += terms.kl.sum().item() / len(rows)
        totals["n_clipped"] += terms.n_clipped.item()
        totals["sampler_gap"] = max(totals["sampler_gap"], gap)
    answers.backward()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    grad_norm = 0.0
    if taught:  # else Adam's momentum would move the weights for no reason
        grad_norm = torch.nn.utils.clip_grad_norm_(parameters, cfg.max_grad_norm).item()
        for group in optimizer.param_groups:
            group["lr"] = cfg.learning_rate * min(1.0, step / max(cfg.warmup_steps, 1))
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    n_tokens = sum(len(row.answer_ids) for row in rows)
    return {
        "loss": totals["loss"],
        "grad_norm": grad_norm,
        "kl": totals["kl"],
        "clip_fraction": totals["n_clipped"] / n_tokens,
        "sampler_gap": totals["sampler_gap"],
        "tokens_trained": answers.n_real,
        "tokens_computed": answers.n_computed,
    }
