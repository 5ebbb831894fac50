"""stub"""

from typing import Any

from ..policy.logprobs import token_logps
from ..policy.packed import n_rows
from ..policy.prompts import SharedPrompts, shares_prompts
from ..policy.savings import saves
from ..policy.writers import one_thread_each as sampling

PACK_UP_TO = 1024
Row = Batch = Any
from collections.abc import Sequence

import torch


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


def answer_logps(model, rows, pad_id, temperature):
    return AnswerLogps(model, rows, pad_id, temperature)
