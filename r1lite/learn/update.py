"""One policy update: rows with advantages -> micro-batches -> loss -> optimizer step."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from .. import dist
from ..config import RunConfig
from ..policy.adapters import Reference, trainable
from ..policy.load import Policy
from ..policy.logprobs import token_logps
from ..policy.packed import n_rows
from ..policy.prompts import SharedPrompts, shares_prompts
from ..policy.savings import saves
from ..policy.shard import is_sharded, whole
from ..records import Group, UserError, needs
from ..world import keyed_rng
from .batching import Batch, Row, balanced_shares, to_batch, to_rows, token_budget_chunks
from .objective import group_advantages, grpo_terms, kl_estimate


def make_optimizer(policy: Policy, cfg: RunConfig) -> torch.optim.Optimizer:
    """AdamW without weight decay, as nothing but reward should move a weight.

    "adamw_8bit" keeps its two moments in 8 bits, "paged_adamw_8bit" also moves them to the main
    memory while the GPU is full (bitsandbytes; matrices below 4,096 numbers stay in 32 bits).
    Raises UserError where bitsandbytes is missing, or cannot do it.
    """
    weights = list(trainable(policy.model).values())
    if cfg.optimizer != "adamw" and is_sharded(policy.model):
        raise UserError(
            f"optimizer={cfg.optimizer!r} cannot keep its moments sharded, as torchrun trains "
            'all weights. Set optimizer="adamw", or train an adapter: tuning="lora".'
        )
    if cfg.optimizer == "adamw":
        return torch.optim.AdamW(weights, lr=cfg.learning_rate, weight_decay=0.0, fused=True)
    with needs(f"optimizer={cfg.optimizer!r}", "bitsandbytes", 'set optimizer="adamw"'):
        from bitsandbytes import optim
    kind = optim.AdamW8bit if cfg.optimizer == "adamw_8bit" else optim.PagedAdamW8bit
    return kind(weights, lr=cfg.learning_rate, weight_decay=0.0)


def minibatches(
    groups: Sequence[Group],
    cfg: RunConfig,
    step: int,
    policy: Policy | None = None,
    reference: Reference | None = None,
) -> list[list[Row]]:
    """Rows with their advantages, cut into updates; more than one are shuffled first.

    Advantages come before the shuffle, which scatters the groups, and before answers that were
    cut off are left out: what they were worth still counts for the others of their group.
    policy, reference  needed where the KL penalty is part of the reward, the first also where
                       sampler and trainer are compared over several updates
    """
    rewards = torch.tensor([group.rewards for group in groups], dtype=torch.float32)  # (P, G)
    if cfg.beta and cfg.kl_placement == "reward":
        rewards = rewards - cfg.beta * reference_kl(groups, cfg, policy, reference)
    advantages = group_advantages(rewards, scale=cfg.advantage_scale, sample_std=cfg.sample_std)
    rows = to_rows(groups, advantages)
    if cfg.mask_truncated:
        cut = [completion.truncated for group in groups for completion in group.completions]
        rows = [row for row, was_cut in zip(rows, cut, strict=True) if not was_cut]
    if cfg.importance_cap and cfg.updates_per_rollout > 1:  # one update sees the trainer's anyway
        trainer = logps_of(policy, policy.model, rows, cfg)
        rows = [replace(row, trainer_logps=logps) for row, logps in zip(rows, trainer)]
    n, batches = cfg.n_minibatches, []
    for epoch in range(cfg.inner_epochs):
        if n > 1:
            keyed_rng("shuffle", cfg.seed, step, epoch).shuffle(rows)
        batches += [rows[i * len(rows) // n : (i + 1) * len(rows) // n] for i in range(n)]
    return batches


def in_loss(cfg: RunConfig) -> bool:
    """Whether the KL penalty is a term of the loss."""
    return cfg.beta > 0 and cfg.kl_placement == "loss"


@torch.no_grad()
def reference_kl(
    groups: Sequence[Group], cfg: RunConfig, policy: Policy, reference: Reference
) -> torch.Tensor:
    """KL estimate of each answer between the policy that wrote it and the reference: (P, G) nats,
    summed over its tokens, as PPO for language models subtracts it from the reward."""
    rows = to_rows(groups, torch.zeros(len(groups), len(groups[0].completions)))
    with reference.as_model() as model:
        found = logps_of(policy, model, rows, cfg)
    sums = [
        kl_estimate(torch.tensor(row.logps), torch.tensor(logps), cfg.kl_estimator).sum()
        for row, logps in zip(rows, found)
    ]
    return torch.stack(sums).view(len(groups), -1)


@torch.no_grad()
def logps_of(policy: Policy, model: Any, rows: Sequence[Row], cfg: RunConfig) -> list[list[float]]:
    """Log-probabilities (nats) of every row's answer under a model, in every process."""
    answers, parts = micro_batches(policy, model, rows, cfg)
    mine: dict[int, list[float]] = {}
    for chunk, _ in parts:
        part = [rows[i] for i in chunk]
        batch = to_batch(part, policy.pad_id).to(policy.device)
        for i, logps, mask in zip(chunk, answers.of(part, batch), batch.response_mask):
            mine[i] = logps[mask].float().tolist()
    found = dist.all_gather_dict(mine)
    return [found[i] for i in range(len(rows))]


# Packed answers look back through products that hold a score for every pair of places, which grows
# with the square of the length; the plain pass takes a kernel that holds none.
PACK_UP_TO = 1024  # tokens of prompt and answer


class AnswerLogps:
    """Log-probabilities of answers under a model as it is now.

    Where the model can be written out, prompts are read only once and answers are packed.
    n_real, n_computed  tokens read so far; tokens multiplied with the model's matrices for that:
                        more by padding, fewer by what answers that begin alike have in common
    """

    def __init__(self, model: Any, rows: Sequence[Row], pad_id: int, temperature: float):
        self.model, self.temperature, self.shared = model, temperature, None
        self.n_real = self.n_computed = 0
        short = rows and max(map(len, rows)) <= PACK_UP_TO
        if short and saves("packed_training") and shares_prompts(model):
            prompts = {self._name(row): row.prompt_ids for row in rows}
            self.shared = SharedPrompts(model, prompts, pad_id)
            self.n_real, self.n_computed = int(self.shared.mask.sum()), self.shared.mask.numel()

    @staticmethod
    def _name(row: Row) -> Any:
        """Of the prompt of a row: equal prompts are one, if that is to be saved."""
        return tuple(row.prompt_ids) if saves("prompt_once_in_training") else id(row)

    def of(self, rows: Sequence[Row], batch: Batch) -> torch.Tensor:
        """(B, L-1), 0 outside the answers; batch holds the same rows."""
        how = {"response_mask": batch.response_mask, "temperature": self.temperature}
        lengths = [len(row.answer_ids) if self.shared else len(row) for row in rows]
        self.n_real += sum(lengths)
        if self.shared is not None:
            before, names = self.shared.packed.n_alike, [self._name(row) for row in rows]
            found = self.shared.token_logps(names, batch.token_ids, **how)
            self.n_computed += n_rows(sum(lengths) - self.shared.packed.n_alike + before)
            return found
        self.n_computed += len(rows) * max(lengths)
        return token_logps(self.model, batch.token_ids, **how)

    def backward(self) -> None:
        """The last part of the gradient, after the backward of every micro-batch."""
        if self.shared is not None:
            self.shared.backward()


def micro_batches(
    policy: Policy, model: Any, rows: Sequence[Row], cfg: RunConfig
) -> tuple[AnswerLogps, list[tuple[list[int], float]]]:
    """This process's share of rows, prepared, and cut into (row indices, 1.0).

    Where weights are sharded, all processes must call the model equally often: one that has fewer
    micro-batches repeats a row, with 0.0 in place of 1.0.
    """
    lengths = [len(row) for row in rows]
    mine = sorted(balanced_shares(lengths, dist.world_size())[dist.rank()])
    chunks = token_budget_chunks([lengths[i] for i in mine], cfg.micro_batch_tokens)
    # answers that begin alike stand one below the other: what they have in common is read once
    words = [(*row.prompt_ids, *row.answer_ids) for row in rows]
    parts = [(sorted((mine[i] for i in chunk), key=words.__getitem__), 1.0) for chunk in chunks]
    if is_sharded(policy.model):
        parts += [([0], 0.0)] * int(dist.all_reduce_max(len(parts)) - len(parts))
    answers = AnswerLogps(model, [rows[i] for i in mine], policy.pad_id, cfg.temperature)
    return answers, parts


def enlarged(cfg: RunConfig, n_tokens: float) -> float:
    """By how much gradients are enlarged on their way: a power of two, so that it is exact.

    What a token has left after the division by all tokens is near the smallest number of float16.
    """
    return 2.0 ** round(math.log2(n_tokens)) if cfg.dtype == "float16" else 1.0


def _backward(
    policy: Policy,
    taught: Sequence[Row],
    rows: Sequence[Row],
    cfg: RunConfig,
    reference: Reference | None,
) -> dict[str, float]:
    """Leave the gradient of the loss of a mini-batch on the weights; returns totals of the log.

    taught  those of rows that have a gradient. The loss is a sum over them divided by the number
            of rows, so micro-batches, dropping and sharing them out change nothing.
    """
    n_rows = max(len(rows), 1)
    mean_length = max(sum(len(row.answer_ids) for row in rows) / n_rows, 1.0)
    divide_by = {
        "sequence_mean": None,
        "token_mean": mean_length,
        "max_length": float(cfg.max_new_tokens),
    }
    answers, parts = micro_batches(policy, policy.model, taught, cfg)
    if reference is not None:
        with torch.no_grad(), reference.as_model() as model:
            reference_answers, _ = micro_batches(policy, model, taught, cfg)
    # shards of gradients are averaged over the processes, and the loss is a sum over them
    scale = dist.world_size() if is_sharded(policy.model) else enlarged(cfg, n_rows * mean_length)
    totals, gap = {"loss": 0.0, "kl": 0.0, "n_clipped": 0.0, "off": 0.0}, 0.0
    for chunk, counts in parts:
        part = [taught[i] for i in chunk]
        batch = to_batch(part, policy.pad_id).to(policy.device)
        logp_new = answers.of(part, batch)
        logp_ref = None
        if reference is not None:
            with torch.no_grad(), reference.as_model():
                logp_ref = reference_answers.of(part, batch)
        logp_old, logp_sampler = batch.logp_old, None
        if cfg.importance_cap:
            logp_old, logp_sampler = batch.logp_trainer, batch.logp_old
            logp_old = logp_new.detach() if logp_old is None else logp_old
        terms = grpo_terms(
            logp_new,
            logp_old,
            batch.advantages,
            batch.response_mask,
            clip_epsilon=cfg.clip_epsilon,
            clip_epsilon_high=cfg.clip_epsilon_high or None,
            dual_clip=cfg.dual_clip or None,
            logp_sampler=logp_sampler,
            importance_cap=cfg.importance_cap,
            beta=cfg.beta if in_loss(cfg) else 0.0,
            logp_ref=logp_ref,
            estimator=cfg.kl_estimator,
            kl_importance_weighted=cfg.kl_importance_weighted,
            objective=cfg.objective,
            divide_by=divide_by[cfg.loss_aggregation],
        )
        loss = counts * terms.per_answer.sum() / n_rows
        (loss * scale).backward()
        off = ((logp_new.detach() - batch.logp_old) * batch.response_mask).abs()
        totals["loss"] += loss.item()
        totals["kl"] += counts * terms.kl.sum().item() / n_rows
        totals["n_clipped"] += counts * terms.n_clipped.item()
        totals["off"] += counts * off.sum().item()
        gap = max(gap, counts * off.max().item())
    answers.backward()
    for weight in trainable(policy.model).values() if cfg.dtype == "float16" else ():
        if weight.grad is not None:
            weight.grad /= scale
    tokens = {"tokens_trained": answers.n_real, "tokens_computed": answers.n_computed}
    return dist.all_reduce_sum(totals | tokens) | {"sampler_gap": dist.all_reduce_max(gap)}


def update(
    policy: Policy,
    rows: Sequence[Row],
    optimizer: torch.optim.Optimizer,
    cfg: RunConfig,
    step: int,
    reference: Reference | None = None,
) -> dict[str, float]:
    """One policy update on a mini-batch of answers.

    Returns its part of the StepLog; tokens_trained, those that were read; tokens_computed, what
    went through its forward passes for that: more by padding, fewer by beginnings that answers
    share; sampler_gap_mean: what sampler_gap is the largest of (nats per answer token that has an
    advantage), on average.

    Answers without an advantage are dropped where the loss has no KL penalty: their gradient is 0.
    Where the gradient is not finite no step is made; its norm in the log says so.
    """
    if not in_loss(cfg):
        reference = None  # there is none, or its part is in the advantages
    drop = saves("drop_equal_groups") and not in_loss(cfg)
    taught = [row for row in rows if row.advantage != 0.0 or not drop]
    totals = _backward(policy, taught, rows, cfg, reference)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    grad_norm = 0.0
    if taught:  # else Adam's momentum would move the weights for no reason
        if not is_sharded(policy.model):
            dist.all_reduce_gradients(parameters)
        grad_norm = whole(torch.nn.utils.clip_grad_norm_(parameters, cfg.max_grad_norm)).item()
        if math.isfinite(grad_norm):  # else the weights, and Adam's moments, would never recover
            for group in optimizer.param_groups:
                group["lr"] = cfg.learning_rate * min(1.0, step / max(cfg.warmup_steps, 1))
            optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    n_tokens, n_taught = (max(sum(len(r.answer_ids) for r in part), 1) for part in (rows, taught))
    totals["clip_fraction"] = totals.pop("n_clipped") / n_tokens
    totals["sampler_gap_mean"] = totals.pop("off") / n_taught
    return totals | {"grad_norm": grad_norm}
