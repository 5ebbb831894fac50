"""What sets one published model apart from another: where its answers stop, how its texts begin,
which of its tokens are no text, how it is talked to, how long its context is."""

from collections.abc import Iterator
from typing import Any

from jinja2 import TemplateError

from ..prompt import TAGS, Format
from ..records import UserError

LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "n_ctx")
ENDLESS = 2**24  # tokens: the context of models that have no limit (ALiBi, state spaces)


def stop_tokens(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """The tokenizer's stop token first, then all of generation_config and config.

    Raises UserError where there is none: every answer would run to the limit.
    """
    found = [tokenizer.eos_token_id]
    for config in (getattr(model, "generation_config", None), *_configs(model.config)):
        ids = getattr(config, "eos_token_id", None)
        found += ids if isinstance(ids, (list, tuple)) else [ids]
    if stops := tuple(dict.fromkeys(i for i in found if i is not None)):
        return stops
    raise UserError(
        "neither the tokenizer (eos_token) nor the model (eos_token_id) names a stop token: every "
        "answer would run to the length limit. Set tokenizer.eos_token, and save it in the folder."
    )


def _configs(config: Any) -> Iterator[Any]:
    """A model's config and the one of its text part, where that is another."""
    yield config
    inner = config.get_text_config(decoder=True)
    if inner is not config:
        yield inner


def first_tokens(tokenizer: Any) -> list[int]:
    """The token that a text of this model begins with, in a list; [] if it wants none."""
    alone = tokenizer("")["input_ids"]
    return alone[:1] if alone and alone[0] == tokenizer.bos_token_id else []


def hidden_tokens(tokenizer: Any, stops: tuple[int, ...]) -> frozenset[int]:
    """The tokens that are no text: special ones, without the tags that an answer is read by."""
    special = zip(tokenizer.all_special_ids, tokenizer.all_special_tokens)
    return frozenset(i for i, token in special if token not in TAGS) | frozenset(stops)


def chat_prompt(tokenizer: Any, question: str, fmt: Format) -> str:
    """A question as the tokenizer's chat template writes it, up to where the answer begins."""
    if not tokenizer.chat_template:
        raise UserError(
            'template="chat": this tokenizer has no chat template, as a base model has none. Set '
            'template="r1-zero" or "r1", or load the chat model.'
        )
    messages = [{"role": "system", "content": fmt.system}] if fmt.system else []
    messages += [{"role": "user", "content": question}]
    try:
        return tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, enable_thinking=fmt.thinking
        )
    except TemplateError as error:
        raise UserError(
            f'template="chat": the model\'s own template refuses ({error}). Leave system= empty: '
            "some models take no system prompt. Or choose another template."
        ) from error


def context(config: Any, tokenizer: Any) -> int:
    """Tokens that a prompt and its answer may have together."""
    for part in _configs(config):
        for name in LENGTHS:
            if isinstance(length := getattr(part, name, None), int) and length > 0:
                return length
    return min(tokenizer.model_max_length, ENDLESS)  # a huge number if it has none


def without_dropout(config: Any) -> Any:
    """The config with nothing left to chance: dropout, dropped layers, jitter of a router.

    Sampler and trainer would compare the log-probabilities of two other models at every step.
    """
    for part in _configs(config):
        for name, value in list(vars(part).items()):
            if isinstance(value, float) and any(w in name for w in ("drop", "jitter")):
                setattr(part, name, 0.0)
    return config
