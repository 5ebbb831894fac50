"""One more token for every row: through transformers, or written out for Qwen2 and Llama.

For a model of this size on a CPU most of a decoding step is Python: a few hundred calls for some
hundred rows of small matrices. WrittenOut makes about a fourth of the calls. It is used only
where `fits` says that it computes the same; everything else takes Through.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import rms_norm, silu

from .adapters import weight_of
from .attention import can_share_keys, mask_of, shared_keys
from .cache import make_cache
from .products import by_onednn, onednn_is_exact
from .prompts import read_prompts
from .savings import saves


def start_decoding(
    model: Any, prompts: Sequence[Sequence[int]], n_answers: int, pad_id: int
) -> tuple[torch.Tensor, Through | WrittenOut]:
    """Read the prompts. Returns the logits (B, V) of the first answer tokens and a decoder.

    Rows are ordered by prompt: the n_answers rows of the first one, then those of the second.
    """
    cache, once = make_cache(model), saves("prompt_once_in_rollout")
    if not once:
        prompts = [prompt for prompt in prompts for _ in range(n_answers)]
    logits, seen = read_prompts(model, prompts, pad_id, cache)
    if once:
        cache.batch_repeat_interleave(n_answers)
        logits, seen = (x.repeat_interleave(n_answers, 0) for x in (logits, seen))
    written_out = saves("written_out") and fits(model)
    return logits, (WrittenOut if written_out else Through)(model, cache, seen)


class Through:
    """Decoding through the model's own forward pass and a cache of keys and values.

    seen  (B, S) True where a cached position is a token of the prompt and not padding
    """

    def __init__(self, model: Any, cache: Any, seen: torch.Tensor):
        self.model, self.cache, self.seen = model, cache, seen
        self.position = seen.sum(-1, keepdim=True)

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Append tokens (B,); returns the logits (B, V) of the next ones."""
        self.seen = torch.cat([self.seen, self.seen.new_ones(len(tokens), 1)], -1)
        inputs = {
            "input_ids": tokens[:, None],
            "position_ids": self.position,
            "past_key_values": self.cache,
            "use_cache": True,
        }
        if can_share_keys(self.model):
            with shared_keys(self.model):
                mask = mask_of(self.model, self.seen[:, None, None])
                out = self.model(attention_mask=mask, **inputs)
        else:
            out = self.model(attention_mask=self.seen.long(), **inputs)
        self.position = self.position + 1
        return out.logits[:, -1]

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these rows only, in this order."""
        self.cache.batch_select_indices(rows)
        self.seen, self.position = self.seen[rows], self.position[rows]


class WrittenOut:
    """The same for Qwen2 and Llama in plain tensors; joined matrices, few calls.

    Weights are read when it is made, so a decoder lives for one rollout and never sees an update.
    A head's numbers are kept in pairs, the two that RoPE turns together side by side: as complex
    numbers they are turned by one product. Queries and keys are reordered alike, so their scores
    stay the same.
    """

    BLOCK = 64  # tokens by which the room for keys and values grows
    MANY = 128  # rows from which on oneDNN's products are faster here

    def __init__(self, model: Any, cache: Any, seen: torch.Tensor):
        config, body = model.config, model.model
        self.heads, self.shared = config.num_attention_heads, config.num_key_value_heads
        self.width, self.eps = body.layers[0].self_attn.head_dim, config.rms_norm_eps
        self.embedding = body.embed_tokens.weight
        pairs = torch.arange(self.width, device=seen.device).view(2, -1).t().flatten()
        self.layers = [_joined(layer, pairs) for layer in body.layers]
        self.head = (model.lm_head.weight * body.norm.weight).t()
        places = torch.arange(config.max_position_embeddings, device=seen.device)[None]
        cos, sin = body.rotary_emb(self.embedding, places)
        self.turns = torch.complex(cos, sin)[0, :, : self.width // 2]
        self.held = seen.shape[1]
        self.rooms = [
            self._room(torch.stack([x.keys[..., pairs], x.values]).flatten(1, 2))
            for x in cache.layers
        ]
        self.position = seen.sum(-1)
        hidden = torch.zeros(seen.shape, dtype=cos.dtype, device=seen.device)
        hidden = hidden.masked_fill(~seen, -torch.inf).repeat_interleave(self.shared, 0)
        self.hidden = hidden[:, None]  # (B K, 1, S): -inf where a prompt is padded

    def _room(self, states: torch.Tensor) -> torch.Tensor:
        """Keys and values (2, B K, held, D) with room for a block more."""
        n, rows, _, width = states.shape
        room = states.new_empty(n, rows, self.held + self.BLOCK, width)
        room[:, :, : self.held] = states[:, :, : self.held]
        return room

    def _times(
        self, x: torch.Tensor, matrix: torch.Tensor, plus: torch.Tensor | None = None
    ) -> torch.Tensor:
        """x (B, K) times matrix (K, N), plus (N,) or (B, N)."""
        fast = len(x) >= self.MANY and saves("onednn_products") and onednn_is_exact()
        with by_onednn() if fast else contextlib.nullcontext():
            return x @ matrix if plus is None else torch.addmm(plus, x, matrix)

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Append tokens (B,); returns the logits (B, V) of the next ones."""
        if self.held == self.rooms[0].shape[2]:
            self.rooms = [self._room(room) for room in self.rooms]
        if self.held == self.hidden.shape[2]:
            self.hidden = torch.nn.functional.pad(self.hidden, (0, self.BLOCK))
        batch, new, width, norm = len(tokens), self.held, self.width, self.embedding.shape[1:]
        turned_heads, key_rows = self.heads + self.shared, batch * self.shared
        self.held += 1
        hidden = self.hidden[:, :, : self.held]
        turns = self.turns[self.position][:, None]
        self.position = self.position + 1
        x = self.embedding[tokens]
        for (qkv, qkv_bias, out, gate_up, down), room in zip(self.layers, self.rooms):
            states = self._times(rms_norm(x, norm, None, self.eps), qkv, qkv_bias)
            states = states.view(batch, turned_heads + self.shared, width)
            pairs = torch.view_as_complex(states[:, :turned_heads].unflatten(-1, (-1, 2)))
            turned = torch.view_as_real(pairs * turns).flatten(-2)
            room[0, :, new] = turned[:, self.heads :].reshape(key_rows, width)
            room[1, :, new] = states[:, turned_heads:].reshape(key_rows, width)
            keys, values = room[:, :, : self.held]
            query = turned[:, : self.heads].reshape(key_rows, -1, width)
            weights = torch.baddbmm(hidden, query, keys.transpose(1, 2)).softmax(-1)
            x = self._times(torch.bmm(weights, values).view(batch, -1), out, plus=x)
            gate, up = self._times(rms_norm(x, norm, None, self.eps), gate_up).chunk(2, -1)
            x = self._times(silu(gate) * up, down, plus=x)
        return self._times(rms_norm(x, norm, None, self.eps), self.head)

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these rows only, in this order."""
        self.position = self.position[rows]
        rows = (
            rows[:, None] * self.shared + torch.arange(self.shared, device=rows.device)
        ).flatten()
        self.rooms = [room.index_select(1, rows) for room in self.rooms]
        self.hidden = self.hidden.index_select(0, rows)


def _joined(layer: Any, pairs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    """The weights of a layer: norms and attention's scale multiplied in, queries and keys in pairs,
    and as one matrix what is multiplied with the same state."""
    attention, mlp = layer.self_attn, layer.mlp
    weights, biases = [], []
    for part, scale in (
        (attention.q_proj, attention.scaling),
        (attention.k_proj, 1.0),
        (attention.v_proj, None),
    ):
        for found, kept in ((weight_of(part), weights), (part.bias, biases)):
            if found is not None and scale is not None:
                found = found.unflatten(0, (-1, len(pairs)))[:, pairs].flatten(0, 1) * scale
            kept.append(found)
    gate_up = torch.cat([weight_of(mlp.gate_proj), weight_of(mlp.up_proj)])
    return (
        (torch.cat(weights) * layer.input_layernorm.weight).t(),
        None if biases[0] is None else torch.cat(biases),
        weight_of(attention.o_proj).t(),
        (gate_up * layer.post_attention_layernorm.weight).t(),
        weight_of(mlp.down_proj).t(),
    )


def fits(model: Any) -> bool:
    """True where WrittenOut computes what the model does: a plain Qwen2 or Llama on a CPU."""
    config = model.config
    if config.model_type not in ("qwen2", "llama") or model.device.type != "cpu":
        return False
    layer = model.model.layers[0]
    matrices = (layer.self_attn.q_proj, layer.self_attn.o_proj, layer.mlp.gate_proj)
    return (
        model.dtype in (torch.float32, torch.float64)
        and all(type(getattr(m, "base_layer", m)) is torch.nn.Linear for m in matrices)  # not 4-bit
        and layer.self_attn.o_proj.bias is None
        and layer.mlp.gate_proj.bias is None
        and config.hidden_act == "silu"
        and not getattr(config, "sliding_window", None)
        and getattr(model.model.rotary_emb, "rope_type", "") in ("default", "linear", "llama3")
    )
