"""One more token for every row: through transformers, or written out for Qwen2 and Llama.

For a model of this size on a CPU most of a decoding step is Python: a few hundred calls for some
hundred rows of small matrices. WrittenOut makes about a fourth of the calls. It is used only
where `fits` says that it computes the same; everything else takes Through.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import linear, rms_norm, silu

from .attention import can_share_keys, mask_of, shared_keys
from .cache import make_cache
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
    """The same for Qwen2 and Llama in plain tensors; joined matrices, no module calls.

    Weights are read when it is made, so a decoder lives for one rollout and never sees an update.
    """

    BLOCK = 64  # tokens by which the room for keys and values grows

    def __init__(self, model: Any, cache: Any, seen: torch.Tensor):
        config, body = model.config, model.model
        self.heads, self.shared = config.num_attention_heads, config.num_key_value_heads
        self.width = body.layers[0].self_attn.head_dim
        self.eps = config.rms_norm_eps
        self.embedding = body.embed_tokens.weight
        self.layers = [_joined(layer) for layer in body.layers]
        self.norm, self.head = body.norm.weight, model.lm_head.weight
        places = torch.arange(config.max_position_embeddings, device=seen.device)[None]
        cos, sin = body.rotary_emb(self.embedding, places)
        half = self.width // 2
        # x * cos + turned(x) * sin, with the sign of `turned` moved into the sines
        self.cos, self.sin = cos[0], torch.cat([-sin[0, :, :half], sin[0, :, half:]], -1)
        self.held = seen.shape[1]
        self.rooms = [self._room(torch.stack([x.keys, x.values])) for x in cache.layers]
        self.position = seen.sum(-1)
        self.bias = torch.zeros(seen.shape, dtype=cos.dtype, device=seen.device)
        self.bias = self.bias.masked_fill(~seen, -torch.inf)[:, None, None]  # (B, 1, 1, S)

    def _room(self, states: torch.Tensor) -> torch.Tensor:
        """Keys and values (2, B, K, held, D) with room for a block more."""
        two, rows, shared, _, width = states.shape
        room = states.new_empty(two, rows, shared, self.held + self.BLOCK, width)
        room[:, :, :, : self.held] = states[:, :, :, : self.held]
        return room

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Append tokens (B,); returns the logits (B, V) of the next ones."""
        if self.held == self.rooms[0].shape[3]:
            self.rooms = [self._room(room) for room in self.rooms]
        batch, heads, shared, new = len(tokens), self.heads, self.shared, self.held
        self.held += 1
        self.bias = torch.cat([self.bias, self.bias.new_zeros(batch, 1, 1, 1)], -1)
        cos, sin = self.cos[self.position][:, None], self.sin[self.position][:, None]
        self.position = self.position + 1
        x = self.embedding[tokens]
        for (norm1, qkv, qkv_bias, out, norm2, gate_up, down), room in zip(self.layers, self.rooms):
            states = linear(rms_norm(x, norm1.shape, norm1, self.eps), qkv, qkv_bias)
            states = states.view(batch, heads + 2 * shared, self.width)
            turning = states[:, : heads + shared]
            turning = turning * cos + turning.roll(self.width // 2, -1) * sin
            room[0, :, :, new] = turning[:, heads:]
            room[1, :, :, new] = states[:, heads + shared :]
            keys, values = room[:, :, :, : self.held]
            query = turning[:, :heads].reshape(batch, shared, heads // shared, self.width)
            weights = (query @ keys.transpose(-1, -2) + self.bias).softmax(-1)
            x = x + linear((weights @ values).reshape(batch, -1), out)
            gate, up = linear(rms_norm(x, norm2.shape, norm2, self.eps), gate_up).chunk(2, -1)
            x = x + linear(silu(gate) * up, down)
        return linear(rms_norm(x, self.norm.shape, self.norm, self.eps), self.head)

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these rows only, in this order."""
        self.rooms = [room[:, rows] for room in self.rooms]
        self.bias, self.position = self.bias[rows], self.position[rows]


def _joined(layer: Any) -> tuple[torch.Tensor | None, ...]:
    """The weights of a layer, those that are multiplied with the same state as one matrix."""
    attention, mlp = layer.self_attn, layer.mlp
    three = (attention.q_proj, attention.k_proj, attention.v_proj)
    # attention's scale goes into the queries' weights
    scales = (attention.scaling, 1.0, 1.0)
    bias = None
    if three[0].bias is not None:
        bias = torch.cat([part.bias * scale for part, scale in zip(three, scales)])
    return (
        layer.input_layernorm.weight,
        torch.cat([part.weight * scale for part, scale in zip(three, scales)]),
        bias,
        attention.o_proj.weight,
        layer.post_attention_layernorm.weight,
        torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]),
        mlp.down_proj.weight,
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
        and all(type(matrix) is torch.nn.Linear for matrix in matrices)  # no adapters
        and layer.self_attn.o_proj.bias is None
        and layer.mlp.gate_proj.bias is None
        and config.hidden_act == "silu"
        and not getattr(config, "sliding_window", None)
        and getattr(model.model.rotary_emb, "rope_type", "") in ("default", "linear", "llama3")
    )
