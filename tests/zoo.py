"""Small models with random weights that are built like published ones, with tokenizers in their
manners: other stop tokens, a token at the beginning, tags as tokens, chat templates."""

from functools import cache
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from r1lite.prompt import render
from r1lite.world import make_problems

TEXTS = [render(p.question, "r1-zero") for p in make_problems("countdown", "train", 30)]
TAGS = ["<think>", "</think>", "<answer>", "</answer>"]

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n"
    "{% endif %}{% endif %}"
)
# opens the thinking itself, and takes it out of what the assistant has said before
OPENING = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}"
    "<|Assistant|>{{ m.content.split('</think>')[-1] }}{{ eos_token }}"
    "{% elif m.role == 'system' %}{{ m.content }}{% else %}<|User|>{{ m.content }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|Assistant|><think>\n{% endif %}"
)


def _trained(special: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=special, show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def _begins_with(tokenizer: Tokenizer, token: str) -> None:
    """Its texts begin with a token, as Llama's and Gemma's do."""
    pairs = [(token, tokenizer.token_to_id(token))]
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(f"{token} $A", f"{token} $A {token} $B", pairs),
        ]
    )


@cache
def tokenizer_of(manner: str) -> PreTrainedTokenizerFast:
    """A tokenizer in one of the manners of MANNERS."""
    return MANNERS[manner]()


def _base() -> PreTrainedTokenizerFast:
    """Qwen2.5's base: one stop token, which also pads."""
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(
        tokenizer_object=_trained([end]), eos_token=end, pad_token=end, unk_token=None
    )


def _chat() -> PreTrainedTokenizerFast:
    """Qwen's chat models: another stop token than the base's, and tags that are special tokens."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *TAGS]
    made = PreTrainedTokenizerFast(
        tokenizer_object=_trained(special), eos_token="<|im_end|>", pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>", *TAGS],
    )  # fmt: skip
    made.chat_template = CHATML
    return made


def _begins() -> PreTrainedTokenizerFast:
    """Llama, Gemma: texts begin with a token, nothing pads."""
    inner = _trained(["<unk>", "<s>", "</s>"])
    _begins_with(inner, "<s>")
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def _one_for_all() -> PreTrainedTokenizerFast:
    """GPT-2: beginning, end and unknown are one token."""
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(
        tokenizer_object=_trained([end]), bos_token=end, eos_token=end, unk_token=end
    )


def _distilled() -> PreTrainedTokenizerFast:
    """R1's distilled models: tags are tokens, and the template opens the thinking."""
    inner = _trained(["<|begin|>", "<|end|>", "<|User|>", "<|Assistant|>"])
    inner.add_tokens(TAGS[:2])
    _begins_with(inner, "<|begin|>")
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<|begin|>", eos_token="<|end|>", pad_token="<|end|>",
        additional_special_tokens=["<|User|>", "<|Assistant|>"],
    )  # fmt: skip
    made.chat_template = OPENING
    return made


MANNERS = {
    "base": _base, "chat": _chat, "begins": _begins, "one for all": _one_for_all,
    "distilled": _distilled,
}  # fmt: skip

SMALL = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "initializer_range": 0.1,
}  # fmt: skip
GROUPED = SMALL | {
    "intermediate_size": 48, "num_key_value_heads": 2, "max_position_embeddings": 640,
}  # fmt: skip
SCALED = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}
# architecture -> (manner of its tokenizer, what its config is made of)
ZOO = {
    "Qwen2": ("chat", GROUPED | {"tie_word_embeddings": True}),
    "Qwen3": ("chat", GROUPED | {"head_dim": 8, "tie_word_embeddings": False}),
    "Llama": ("begins", GROUPED | {"rope_parameters": SCALED}),
    "Gemma": ("begins", GROUPED | {"head_dim": 8}),
    "Gemma2": ("begins", GROUPED | {"head_dim": 8, "sliding_window": 32}),
    "Mistral": ("distilled", GROUPED | {"sliding_window": 32}),
    "Phi": ("one for all", GROUPED | {"resid_pdrop": 0.2, "attention_dropout": 0.2}),
    "GPT2": (
        "one for all",
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 640, "initializer_range": 0.1},
    ),
    "OPT": (
        "begins",
        SMALL
        | {
            "ffn_dim": 48, "max_position_embeddings": 640, "word_embed_proj_dim": 32,
            "init_std": 0.1,
        },
    ),
    "Bloom": ("base", {"hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.1}),
    "Mixtral": (
        "distilled",
        GROUPED
        | {"num_local_experts": 4, "num_experts_per_tok": 2, "router_jitter_noise": 0.1},
    ),
    "Qwen3Moe": (
        "chat",
        GROUPED
        | {
            "head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24,
        },
    ),
    "Mamba": (
        "base",
        {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8, "initializer_range": 0.1},
    ),
}  # fmt: skip


def put(folder: Path, architecture: str, **changes: int) -> str:
    """Write one of ZOO as a folder of the hub; its vocabulary is padded beyond its tokenizer's."""
    manner, fields = ZOO[architecture]
    tokenizer = tokenizer_of(manner)
    config = getattr(transformers, f"{architecture}Config")(
        vocab_size=len(tokenizer) + 5,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **fields | changes,
    )
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config)
    if manner == "chat":  # as Qwen's: also where a text ends ends an answer
        ids = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
        model.generation_config.eos_token_id = ids
    path = folder / architecture
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return str(path)
