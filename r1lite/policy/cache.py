"""A key-value cache that grows by blocks, so that most tokens are written in place."""

from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from .savings import saves


class BlockLayer(DynamicLayer):
    """DynamicLayer copies all keys and values at every token; this one once in BLOCK tokens."""

    BLOCK = 64

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.keys = self._extend("_key_room", self.keys, key_states)
        self.values = self._extend("_value_room", self.values, value_states)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep these rows, and the room behind them: a view is cut off it again."""
        n_held = self.get_seq_length()
        if self._is_stale("_key_room", self.keys):
            super().batch_select_indices(indices)
            return
        self._key_room, self._value_room = self._key_room[indices], self._value_room[indices]
        self.keys = self._key_room[:, :, :n_held]
        self.values = self._value_room[:, :, :n_held]

    def _is_stale(self, room_name: str, held: torch.Tensor) -> bool:
        """True if rows were repeated since: `held` is no longer a view of the room."""
        room = getattr(self, room_name, None)
        return room is None or held.data_ptr() != room.data_ptr() or len(room) != len(held)

    def _extend(self, room_name: str, held: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        rows, heads, n_new, width = new.shape
        n_held = held.shape[-2] if held.numel() else 0
        room = getattr(self, room_name, None)
        if self._is_stale(room_name, held) or room.shape[-2] < n_held + n_new:
            room = new.new_empty(rows, heads, n_held + n_new + self.BLOCK, width)
            if n_held:
                room[:, :, :n_held] = held
            setattr(self, room_name, room)
        room[:, :, n_held : n_held + n_new] = new
        return room[:, :, : n_held + n_new]


def make_cache(model: Any) -> DynamicCache:
    """An empty cache for a model; layers of other kinds (sliding windows) stay as they are."""
    cache = DynamicCache(config=model.config)
    if saves("block_cache"):
        cache.layers = [BlockLayer() if type(x) is DynamicLayer else x for x in cache.layers]
    return cache
