"""One policy update: advantages -> mini-batches -> micro-batches -> loss and its gradient."""

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from .. import dist
from ..config import RunConfig, TrainingConfig
from ..fast import answer_logps
from ..policy.adapters import Reference, trainable
from ..policy.load import Policy
from ..policy.logprobs import AnswerLogps
from ..policy.shard import is_sharded
from ..records import Group
from ..world import keyed_rng
from .batching import Batch, Row, balanced_shares, to_batch, to_rows, token_budget_chunks
from .objective import Terms, group_advantages, grpo_loss, kl_estimate

AdvantageFunction = Callable[..., Any]  # (rewards (P, G)[, groups]) -> see batching.to_rows
LossFunction = Callable[[torch.Tensor, Batch, RunConfig], Any]  # see objective.grpo_loss


def compute_advantages(
    groups: Sequence[Group],
    cfg: RunConfig,
    policy: Policy | None = None,
    reference: Reference | None = None,
    function: AdvantageFunction | None = None,
) -> Any:
    """How much better each answer is than the others of its group: (P, G).

    function  in place of group_advantages: of the rewards (P, G), and of the groups too if it takes
              a second argument; it may return one number for each token, see batching.to_rows.
              Rewards are NaN where an answer has none (records.Group): give it 0, and use nanmean
    policy, reference  needed where the KL penalty is part of the reward
    """
    rewards = torch.tensor([group.rewards for group in groups], dtype=torch.float32)
    if cfg.beta and cfg.kl_placement == "reward":
        rewards = rewards - cfg.beta * reference_kl(groups, cfg, policy, reference)
    if function is None:
        return group_advantages(rewards, scale=cfg.advantage_scale, sample_std=cfg.sample_std)
    takes_groups = len(inspect.signature(function).parameters) > 1
    return function(rewards, groups) if takes_groups else function(rewards)


def minibatches(
    groups: Sequence[Group], advantages: Any, cfg: RunConfig, step: int, policy: Policy
) -> list[list[Row]]:
    """Rows with their advantages, cut into updates; more than one are shuffled first.

    Advantages come before the shuffle, which scatters the groups, and before answers that were
    cut off are left out: what they were worth still counts for the others of their group.
    policy  needed where sampler and trainer are compared over several updates
    """
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


@torch.no_grad()
def reference_kl(
    groups: Sequence[Group], cfg: RunConfig, policy: Policy, reference: Reference
) -> torch.Tensor:
    """KL estimate of each answer between the policy that wrote it and the reference: (P, G) nats,
    summed over its tokens, as PPO for language models subtracts it from the reward."""
    rows = to_rows(groups, torch.zeros(len(groups), len(groups[0].completions)))
    with reference.as_model() as model:
        logps = logps_of(policy, model, rows, cfg)
    sums = [
        kl_estimate(torch.tensor(row.logps), torch.tensor(ref), cfg.kl_estimator).sum()
        for row, ref in zip(rows, logps)
    ]
    return torch.stack(sums).view(len(groups), -1)


@torch.no_grad()
def logps_of(policy: Policy, model: Any, rows: Sequence[Row], cfg: RunConfig) -> list[list[float]]:
    """Log-probabilities (nats) of every row's answer under a model, in every process."""
    chunks, scorer = prepare(policy, model, rows, cfg)
    mine: dict[int, list[float]] = {}
    for chunk, _ in chunks:
        part, batch = micro_batch(policy, rows, chunk)
        for i, logps, mask in zip(chunk, scorer.of(part, batch), batch.response_mask):
            mine[i] = logps[mask].float().tolist()
    everyones = dist.all_gather_dict(mine)
    return [everyones[i] for i in range(len(rows))]


def prepare(
    policy: Policy, model: Any, rows: Sequence[Row], cfg: TrainingConfig
) -> tuple[list[tuple[list[int], float]], AnswerLogps]:
    """This process's share of the rows as micro-batches, and what computes log-probabilities.

    A micro-batch is (row indices, weight 1.0). Where weights are sharded, all processes must call
    the model equally often: one that has fewer repeats a row, with weight 0.0.
    """
    lengths = [len(row) for row in rows]
    mine = sorted(balanced_shares(lengths, dist.world_size())[dist.rank()])
    cut = token_budget_chunks([lengths[i] for i in mine], cfg.micro_batch_tokens)
    chunks = [([mine[i] for i in chunk], 1.0) for chunk in cut]
    if is_sharded(policy.model):
        chunks += [([0], 0.0)] * int(dist.all_reduce_max(len(chunks)) - len(chunks))
    make = answer_logps if cfg.fast else AnswerLogps
    return chunks, make(model, [rows[i] for i in mine], policy.pad_id, cfg.temperature)


def micro_batch(
    policy: Policy, rows: Sequence[Row], chunk: Sequence[int], mean_length: float = 1.0
) -> tuple[list[Row], Batch]:
    """The rows of a chunk of `prepare`, and the same padded, on the policy's device."""
    part = [rows[i] for i in chunk]
    return part, to_batch(part, policy.pad_id, mean_length).to(policy.device)


def loss_scale(policy: Policy, cfg: TrainingConfig, n_tokens: float) -> float:
    """What the loss is multiplied with before the backward pass; `unscale` divides by it again.

    Sharded gradients are averaged over the processes, and the loss is a sum over them. In float16
    what a token has left after the division by all tokens is near the smallest number of the
    format: a power of two, so that it is exact.
    """
    if is_sharded(policy.model):
        return dist.world_size()
    return 2.0 ** round(math.log2(n_tokens)) if cfg.dtype == "float16" else 1.0


def unscale(policy: Policy, cfg: TrainingConfig, scale: float) -> None:
    """Take the scale of a float16 loss out of the gradients; of sharded ones the mean has."""
    for weight in trainable(policy.model).values() if cfg.dtype == "float16" else ():
        if weight.grad is not None:
            weight.grad /= scale


@torch.no_grad()
def reference_logps(
    policy: Policy, reference: Reference, rows: Sequence[Row], cfg: RunConfig
) -> list[torch.Tensor]:
    """What the reference makes of each micro-batch of `prepare`: see Batch.logp_ref."""
    with reference.as_model() as model:
        chunks, scorer = prepare(policy, model, rows, cfg)
        return [scorer.of(*micro_batch(policy, rows, chunk)) for chunk, _ in chunks]


def backward(
    policy: Policy,
    rows: Sequence[Row],
    cfg: RunConfig,
    reference: Reference | None = None,
    loss: LossFunction = grpo_loss,
) -> dict[str, float]:
    """The loss of a mini-batch, and its gradient on the weights; returns metrics (see METRICS).

    The loss is a sum over answers divided by their number, so micro-batches, dropping and sharing
    them out change nothing. Answers without an advantage are dropped where their gradient is 0:
    under grpo_loss without a KL penalty in the loss.
    """
    if cfg.kl_placement == "reward":
        reference = None  # its part is in the advantages
    n_rows, n_tokens = max(len(rows), 1), sum(len(row.answer_ids) for row in rows)
    drop = loss is grpo_loss and reference is None
    trained = [row for row in rows if any(row.advantages) or not drop]
    chunks, scorer = prepare(policy, policy.model, trained, cfg)
    refs = reference_logps(policy, reference, trained, cfg) if reference else [None] * len(chunks)
    mean_length = max(n_tokens / n_rows, 1.0)
    scale = loss_scale(policy, cfg, n_rows * mean_length)
    names = ("loss", "kl", "clip_fraction", "sampler_gap", "sampler_gap_mean")
    totals, largest_gap = dict.fromkeys(names, 0.0), 0.0  # sums; what is a mean is divided below
    for (chunk, weight), logp_ref in zip(chunks, refs, strict=True):
        part, batch = micro_batch(policy, trained, chunk, mean_length)
        logps = scorer.of(part, batch)
        terms = as_terms(loss(logps, replace(batch, logp_ref=logp_ref), cfg), len(part))
        value = weight * terms.per_answer.sum() / n_rows
        (value * scale).backward()
        gap = ((logps.detach() - batch.logp_old) * batch.response_mask).abs()
        totals["loss"] += value.item()
        totals["kl"] += weight * terms.kl.sum().item() / n_rows
        totals["clip_fraction"] += weight * terms.n_clipped.item()
        totals["sampler_gap_mean"] += weight * gap.sum().item()
        largest_gap = max(largest_gap, weight * gap.max().item())
    scorer.backward()
    unscale(policy, cfg, scale)
    tokens = {"tokens_trained": scorer.n_real, "tokens_computed": scorer.n_computed}
    totals = dist.all_reduce_sum(totals | tokens)
    totals["clip_fraction"] /= max(n_tokens, 1)
    totals["sampler_gap"] = dist.all_reduce_max(largest_gap)
    totals["sampler_gap_mean"] /= max(sum(len(row.answer_ids) for row in trained), 1)
    return totals


def as_terms(value: Any, n: int) -> Terms:
    """What a loss function returned: Terms, or values (B,), one for each answer."""
    if isinstance(value, Terms):
        return value
    if not isinstance(value, torch.Tensor) or value.shape != (n,):
        shape = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        raise ValueError(
            f"loss= returned {shape}: it must return one value for each of the {n} answers of the "
            "batch, shape (B,). Sum over the tokens, not over the answers."
        )
    zero = value.detach().new_zeros(())
    return Terms(value, value.detach() * 0, zero)
