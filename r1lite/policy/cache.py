"""A key-value cache that grows by blocks, so that most tokens are written in place."""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer


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

    def _extend(self, room_name: str, held: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        rows, heads, n_new, width = new.shape
        n_held = held.shape[-2] if held.numel() else 0
        room = getattr(self, room_name, None)
        # rows were selected or repeated since: `held` is no longer a view of the room
        stale = room is None or held.data_ptr() != room.data_ptr() or room.shape[0] != rows
        if stale or room.shape[-2] < n_held + n_new:
            room = new.new_empty(rows, heads, n_held + n_new + self.BLOCK, width)
            if n_held:
                room[:, :, :n_held] = held
            setattr(self, room_name, room)
        room[:, :, n_held : n_held + n_new] = new
        return room[:, :, : n_held + n_new]


def make_cache(model: Any) -> DynamicCache:
    """An empty cache for a model; layers of other kinds (sliding windows) stay as they are."""
    cache = DynamicCache(config=model.config)
    cache.layers = [BlockLayer() if type(x) is DynamicLayer else x for x in cache.layers]
    return cache
