"""From ragged groups to padded tensors; every mask comes from lengths, never from token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch

from ..policy.savings import saves
from ..records import Group


@dataclass(frozen=True)
class Batch:
    """Rows padded on the right to one length L.

    token_ids      (B, L)   prompt, answer, padding
    response_mask  (B, L-1) True where token l+1 was written by the policy, stop token included
    logp_old       (B, L-1) log-probability (nats) when it was sampled; 0 outside the mask
    advantages     (B,)
    logp_trainer   (B, L-1) what the trainer made of it then, if it was asked
    """

    token_ids: torch.Tensor
    response_mask: torch.Tensor
    logp_old: torch.Tensor
    advantages: torch.Tensor
    logp_trainer: torch.Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        parts = (getattr(self, field.name) for field in fields(self))
        return Batch(*(None if part is None else part.to(device) for part in parts))


@dataclass(frozen=True)
class Row:
    """One answer with its prompt and its advantage, before padding.

    logps  of its tokens (nats) as the sampler said; trainer_logps: as the trainer says
    """

    prompt_ids: Sequence[int]
    answer_ids: Sequence[int]
    logps: Sequence[float]
    advantage: float
    trainer_logps: Sequence[float] | None = None

    def __len__(self) -> int:
        return len(self.prompt_ids) + len(self.answer_ids)


def to_rows(groups: Sequence[Group], advantages: torch.Tensor) -> list[Row]:
    """Flatten P groups of G answers, with advantages (P, G), into B rows."""
    return [
        Row(group.prompt_ids, completion.token_ids, completion.logps, float(a))
        for group, row in zip(groups, advantages, strict=True)
        for completion, a in zip(group.completions, row, strict=True)
    ]


def token_budget_chunks(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Cut row indices, sorted by length, so that rows times the longest stays within budget.

    A row longer than the budget gets a chunk of its own. The loss must be a sum over all chunks
    divided once by the whole batch's normaliser; a mean of chunk means weighs rows unequally.

    >>> token_budget_chunks([3, 9, 2, 4], budget=9)
    [[2, 0], [3], [1]]
    """
    chunks: list[list[int]] = [[]]
    order = range(len(lengths))
    longest = 0
    for index in sorted(order, key=lambda i: (lengths[i], i)) if saves("sort_by_length") else order:
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


def to_batch(rows: Sequence[Row], pad_id: int) -> Batch:
    """Pad rows into one Batch. Position l of the masks speaks of token l + 1."""
    n_before = [len(row.prompt_ids) - 1 for row in rows]
    asked = all(row.trainer_logps is not None for row in rows)

    def pad_logps(logps: list[Sequence[float]]) -> torch.Tensor:
        whole = [[0.0] * n + list(part) for n, part in zip(n_before, logps)]
        return pad_right(whole, 0.0, torch.float32)

    return Batch(
        token_ids=pad_right([[*r.prompt_ids, *r.answer_ids] for r in rows], pad_id, torch.long),
        response_mask=pad_right(
            [[0] * n + [1] * len(r.answer_ids) for n, r in zip(n_before, rows)], 0, torch.bool
        ),
        logp_old=pad_logps([r.logps for r in rows]),
        advantages=torch.tensor([r.advantage for r in rows], dtype=torch.float32),
        logp_trainer=pad_logps([r.trainer_logps for r in rows]) if asked else None,
    )
