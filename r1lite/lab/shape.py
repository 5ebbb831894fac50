"""What of a decoder decides its memory, read off its config: no weights are needed."""

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from ..policy.hub import check_network
from ..policy.load import REPO, find_model
from ..records import UserError

KNOWN = REPO / "data/configs"  # configs of a few models, so that planning needs no network


@dataclass(frozen=True)
class Shape:
    """What of a decoder decides its memory.

    n_weights   numbers in all; n_linear: of them in the layers' matrices (4-bit under QLoRA)
    n_adapter   numbers of an adapter of rank 1: the sum of in + out over those matrices
    q, kv       width of all query heads, of all key heads
    normed_heads   queries and keys have norms of their own (Qwen3)
    """

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocabulary: int
    context: int
    n_weights: int
    n_linear: int
    n_adapter: int
    normed_heads: bool

    @property
    def q(self) -> int:
        return self.heads * self.head_dim

    @property
    def kv(self) -> int:
        return self.kv_heads * self.head_dim


def read_config(model: str) -> Any:
    """The config of a model folder, of a model of data/configs, or of one on the hub."""
    from transformers import AutoConfig

    known = KNOWN / f"{model.replace('/', '--')}.json"
    if known.exists():
        return AutoConfig.for_model(**json.loads(known.read_text(encoding="utf-8")))
    try:
        check_network(model)
        return AutoConfig.from_pretrained(find_model(model))
    except (OSError, ValueError) as error:
        names = ", ".join(sorted(p.stem.replace("--", "/") for p in KNOWN.glob("*.json")))
        raise UserError(
            f"there is no config of {model!r} here, and none could be fetched: a folder with "
            f"config.json is enough. Known without a network: {names}."
        ) from error


@cache
def shape_of(model: str) -> Shape:
    """Counted on a model without memory (torch's meta device), so right for any architecture."""
    from transformers import AutoModelForCausalLM

    config = read_config(model)
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(config)
    head = network.get_output_embeddings()
    linear = [m for m in network.modules() if isinstance(m, torch.nn.Linear) and m is not head]
    heads = config.num_attention_heads
    return Shape(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        heads=heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
        ffn=config.intermediate_size,
        vocabulary=config.vocab_size,
        context=config.max_position_embeddings,
        n_weights=sum(p.numel() for p in network.parameters()),
        n_linear=sum(m.weight.numel() for m in linear),
        n_adapter=sum(m.in_features + m.out_features for m in linear),
        normed_heads=any("q_norm" in name for name, _ in network.named_modules()),
    )
