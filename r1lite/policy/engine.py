"""What samples for a policy in place of its own model: the protocol that engines keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..records import Completion


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How answers are sampled.

    group_size      answers to each prompt
    max_new_tokens  length limit T of an answer; one that reaches it is marked truncated
    temperature     0 takes the likeliest token
    top_p           keep the likeliest tokens that hold this much probability; 1 keeps all
    """

    group_size: int = 1
    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0


class Engine(Protocol):
    """A second way to sample: vLLM here or on a server, a whole copy of sharded weights, fused
    decoding, worker processes. All give what sample.sample_answers gives, to rounding.

    rows_at_once  answers that it takes in one call
    """

    rows_at_once: int

    def generate(
        self, prompts: Sequence[Sequence[int]], keys: Sequence[tuple[object, ...]], how: Sampling
    ) -> list[Completion]:
        """how.group_size answers to each prompt of token ids, ordered by prompt.

        keys  one for each prompt: what the sampling of its answers depends on
        """

    def update(self, model: Any) -> None:
        """From here on it samples from the weights of now; every process of a torchrun calls."""

    def close(self) -> None:
        """Give back what it holds, while the processes can still talk to each other."""
