"""Loading a policy: any causal language model folder that transformers can read."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ..config import REPO
from ..prompt import Format
from ..records import UserError
from .adapters import add_adapter, load_adapter, quantised
from .engine import Engine
from .hub import LOCAL, check_network, model_folder
from .manners import (
    chat_prompt,
    context,
    first_tokens,
    hidden_tokens,
    stop_tokens,
    without_dropout,
)

# AutoTokenizer of transformers 5 replaces any tokenizer of a qwen2 folder by Qwen2Tokenizer,
# without a word, and every answer becomes rubbish. A folder that names a tokenizer of its own
# (auto_map) is exempt; transformers then reads tokenizer.json as it stands.
TOKENIZER_MAP = {"AutoTokenizer": [None, "tokenizer.TinyTokenizer"]}

TINY_BASE = "data/tiny-base"


@dataclass(frozen=True)
class Policy:
    """A model with its tokenizer; `max_length` is the context in tokens.

    engine  what samples, if not the model itself
    """

    model: Any
    tokenizer: Any
    max_length: int
    engine: Engine | None = None

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @cached_property
    def stop_ids(self) -> tuple[int, ...]:
        """Every token that ends an answer: the tokenizer's stop token, and those that the model's
        folder names. A chat model often has another one than the base it was made of."""
        return stop_tokens(self.model, self.tokenizer)

    @property
    def stop_id(self) -> int:
        """The stop token that supervised training teaches."""
        return self.stop_ids[0]

    @property
    def pad_id(self) -> int:
        pad = self.tokenizer.pad_token_id
        return self.stop_id if pad is None else pad

    def prompt(self, question: str, fmt: Format) -> str:
        """The text of a prompt: a question in the template of the format, or of the tokenizer."""
        return chat_prompt(self.tokenizer, question, fmt) if fmt.is_chat else fmt.render(question)

    def encode(self, text: str, begins: bool = True) -> list[int]:
        """Token ids of a text; raises UserError if a word of it is unknown.

        begins  it is the beginning: it gets the token that the model wants there, if any, once
        """
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        unknown = self.tokenizer.unk_token_id
        if unknown in ids and unknown not in {*self.stop_ids, *self._first, None}:
            known = self.tokenizer.get_vocab()
            word = next((w for w in text.split() if w not in known), "?")
            raise UserError(
                f"the word {word!r} in {text!r} is unknown to this model: every word of a prompt "
                "must be in its vocabulary. Rephrase the question, or load a larger model."
            )
        return ids if not begins or ids[:1] == self._first else [*self._first, *ids]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids. Special tokens are left out, but for tags: some tokenizers have them
        as such, and they are what an answer is read by."""
        shown = [i for i in ids if i not in self._hidden]
        return self.tokenizer.decode(shown, skip_special_tokens=False)

    @cached_property
    def _first(self) -> list[int]:
        return first_tokens(self.tokenizer)

    @cached_property
    def _hidden(self) -> frozenset[int]:
        return hidden_tokens(self.tokenizer, self.stop_ids)


def find_model(model: str) -> str:
    """A path as given, or the same path inside the project; a hub name is left as it is."""
    if folder := model_folder(model):
        return str(folder)
    if model.startswith(LOCAL) or Path(model).exists():
        raise UserError(
            f"there is no model at {model!r}: a model folder holds config.json, model.safetensors "
            f"and a tokenizer. Use {TINY_BASE!r}, or build it with `python -m r1lite base`."
        )
    return model


def load_policy(
    model: str = TINY_BASE,
    *,
    device: str = "auto",
    dtype: str = "float32",
    tuning: str = "full",
    lora_rank: int = 16,
    lora_alpha: float = 32.0,
    seed: int = 0,
    gradient_checkpointing: bool = False,
    adapter: Path | None = None,
) -> Policy:
    """Load a model folder (or hub name) for sampling and training.

    device   "auto" takes the GPU if there is one
    dtype    of the weights: "float32", "bfloat16" or "float16"; adapters are float32
    tuning   "full", or an adapter beside frozen weights: "lora", "qlora" (those in 4 bits)
    adapter  a folder with a trained adapter to put in
    Raises UserError where the folder is missing or cannot be read.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # a bar per load of a small model drowns the run's own
    path = find_model(model)
    check_network(path)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    more = {}
    if tuning == "qlora":
        more = {"quantization_config": quantised(getattr(torch, dtype)), "device_map": device}
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
        more["config"] = without_dropout(AutoConfig.from_pretrained(path))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network = AutoModelForCausalLM.from_pretrained(
                path, dtype=getattr(torch, dtype), **more
            )
    except Exception as error:  # the libraries below raise many kinds; the cause is kept
        raise UserError(
            f"the model at {model!r} could not be loaded ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]}). If the folder is damaged, restore it from git "
            "or rebuild it with `python -m r1lite base`."
        ) from error
    if tuning != "full":
        add_adapter(network, lora_rank, lora_alpha, seed)
    if adapter:
        load_adapter(network, adapter)
    if gradient_checkpointing:
        network.gradient_checkpointing_enable({"use_reentrant": False})
    try:
        network = (network if tuning == "qlora" else network.to(device)).train()
    except (RuntimeError, AssertionError) as error:  # torch's two ways of lacking a device
        raise UserError(
            f"device={device!r} cannot be used here ({str(error).splitlines()[0][:120]}): it must "
            'be "auto", "cpu", or a device that torch finds, such as "cuda". Set device= to one.'
        ) from error
    return Policy(network, tokenizer, context(network.config, tokenizer))


def save_policy(policy: Policy, folder: Path | str) -> None:
    """Write model and tokenizer as an ordinary Hugging Face folder; of an adapter, it alone."""
    policy.model.save_pretrained(folder)
    policy.tokenizer.save_pretrained(folder)
    if policy.tokenizer.init_kwargs.get("auto_map") == TOKENIZER_MAP:
        shutil.copy(REPO / TINY_BASE / "tokenizer.py", folder)
