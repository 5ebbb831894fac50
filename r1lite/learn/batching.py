"""From ragged groups to padded tensors; every mask comes from lengths, never from token ids."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..records import Group, UserError


@dataclass(frozen=True)
class Batch:
    """Rows padded on the right to one length L.

    token_ids      (B, L)   prompt, answer, padding
    response_mask  (B, L-1) True where token l+1 was written by the policy, stop token included
    logp_old       (B, L-1) log-probability (nats) when it was sampled; 0 outside the mask
    advantages     (B, L-1) of the token; 0 outside the mask
    logp_trainer   (B, L-1) what the trainer made of the sampling policy, if it was asked
    logp_ref       (B, L-1) what the reference makes of it, if the loss has a KL penalty
    mean_length    tokens per answer, over the whole mini-batch that these rows are part of
    """

    token_ids: torch.Tensor
    response_mask: torch.Tensor
    logp_old: torch.Tensor
    advantages: torch.Tensor
    logp_trainer: torch.Tensor | None = None
    logp_ref: torch.Tensor | None = None
    mean_length: float = 1.0

    def to(self, device: torch.device | str) -> Batch:
        tensors = {k: v for k, v in vars(self).items() if isinstance(v, torch.Tensor)}
        return replace(self, **{name: tensor.to(device) for name, tensor in tensors.items()})


@dataclass(frozen=True)
class Row:
    """One answer with its prompt and its advantage, before padding.

    logps      of its tokens (nats) as the sampler said; trainer_logps: as the trainer says
    advantage  one number for all tokens, or one for each of the T tokens
    """

    prompt_ids: Sequence[int]
    answer_ids: Sequence[int]
    logps: Sequence[float] = ()
    advantage: float | Sequence[float] = 0.0
    trainer_logps: Sequence[float] | None = None

    def __len__(self) -> int:
        return len(self.prompt_ids) + len(self.answer_ids)

    @property
    def advantages(self) -> Sequence[float]:
        """One for each of the T tokens."""
        if isinstance(self.advantage, (int, float)):
            return [self.advantage] * len(self.answer_ids)
        return self.advantage


def to_rows(groups: Sequence[Group], advantages: torch.Tensor | Sequence[Any]) -> list[Row]:
    """Flatten P groups of G answers into B rows.

    advantages  (P, G), one for each answer; or P lists of G sequences, one for each token
    Raises UserError where they do not fit, or are not finite.
    """
    if isinstance(advantages, torch.Tensor):
        advantages = advantages.tolist()
    rows = []
    for group, values in zip(groups, advantages, strict=True):
        for completion, value in zip(group.completions, values, strict=True):
            row = Row(group.prompt_ids, completion.token_ids, completion.logps, value)
            numbers = row.advantages
            if len(numbers) != len(row.answer_ids) or not all(map(math.isfinite, numbers)):
                raise UserError(
                    f"an answer of {len(row.answer_ids)} tokens got {len(numbers)} advantages "
                    f"({value!r:.60}): give one finite number for each answer, or one for each of "
                    "its tokens; 0 where its reward is NaN."
                )
            rows.append(row)
    return rows


def token_budget_chunks(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Cut row indices, sorted by length, so that rows times the longest stays within budget.

    A row longer than the budget gets a chunk of its own. The loss must be a sum over all chunks
    divided once by the whole batch's normaliser; a mean of chunk means weighs rows unequally.

    >>> token_budget_chunks([3, 9, 2, 4], budget=9)
    [[2, 0], [3], [1]]
    """
    chunks: list[list[int]] = [[]]
    longest = 0
    for index in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        longest = max(longest, lengths[index])
        if chunks[-1] and (len(chunks[-1]) + 1) * longest > budget:
            chunks.append([])
            longest = lengths[index]
        chunks[-1].append(index)
    return chunks if chunks[0] else []


def balanced_shares(lengths: Sequence[int], n: int) -> list[list[int]]:
    """Row indices dealt out to n processes so that each has about as many tokens to read.

    The longest first, each to whoever has least so far.

    >>> balanced_shares([3, 9, 2, 4], n=2)
    [[1], [3, 0, 2]]
    """
    shares: list[list[int]] = [[] for _ in range(n)]
    loads = [0] * n
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        least = loads.index(min(loads))
        shares[least].append(index)
        loads[least] += lengths[index]
    return shares


def pad_right(rows: Sequence[Sequence[float]], value: float, dtype: torch.dtype) -> torch.Tensor:
    """(B, L) of ragged rows, the tail filled with value."""
    length = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (length - len(row))] for row in rows], dtype=dtype)


def to_batch(rows: Sequence[Row], pad_id: int, mean_length: float = 1.0) -> Batch:
    """Pad rows into one Batch. Position l of the masks speaks of token l + 1."""
    n_before = [len(row.prompt_ids) - 1 for row in rows]

    def pad(values: Sequence[Sequence[float]]) -> torch.Tensor:
        return pad_right([[0.0] * n + list(v) for n, v in zip(n_before, values)], 0.0, torch.float)

    asked = all(row.trainer_logps is not None for row in rows)
    return Batch(
        token_ids=pad_right([[*r.prompt_ids, *r.answer_ids] for r in rows], pad_id, torch.long),
        response_mask=pad([[1.0] * len(r.answer_ids) for r in rows]).bool(),
        logp_old=pad([r.logps or [0.0] * len(r.answer_ids) for r in rows]),
        advantages=pad([r.advantages for r in rows]),
        logp_trainer=pad([r.trainer_logps for r in rows]) if asked else None,
        mean_length=mean_length,
    )
