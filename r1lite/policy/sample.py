"""Prompts -> groups of answers: the decoding loop.

Sampling is keyed by (seed, step, problem, answer): each answer brings its own row of random
numbers, so batch size, rows that finish early and resumption cannot change what is sampled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from inspect import signature
from typing import Any

import numpy as np
import torch
from transformers.cache_utils import Cache, DynamicCache

from ..prompt import Format, get_format, question_of, read_behind
from ..records import Completion, Group, Problem, UserError
from .engine import Sampling
from .load import Policy
from .logprobs import plain_head

ROWS_AT_ONCE = 512  # more rows cost memory and, on a CPU, gain little


def sample_groups(
    policy: Policy,
    problems: Sequence[Problem],
    *,
    template: str | Format = "tiny",
    seed: int = 0,
    step: int = 0,
    **how: Any,
) -> list[Group]:
    """Sample a group of answers to each problem.

    how   the fields of engine.Sampling: group_size, max_new_tokens, temperature, top_p
    step  part of the random key; use the step of the run, or 0 for an evaluation
    Raises UserError where prompt and answer would not fit the model's context.
    """
    parts = sample_parts(policy, problems, Sampling(**how), template=template, seed=seed, step=step)
    return [group for part in parts for group in part]


def sample_parts(
    policy: Policy,
    problems: Sequence[Problem],
    how: Sampling,
    *,
    template: str | Format,
    seed: int,
    step: int,
) -> Iterator[list[Group]]:
    """The groups of sample_groups, some at a time, as they are sampled."""
    fmt = get_format(template)
    questions = [question_of(problem, fmt) for problem in problems]
    texts = [policy.prompt(question, fmt) for question in questions]
    prompts = [policy.encode(text) for text in texts]
    keys = [(seed, step, problem.problem_id) for problem in problems]
    todo = iter(zip(problems, questions, texts, prompts))
    for part in _generate_parts(policy, prompts, keys, how):
        yield [
            Group(problem, tuple(prompt), read_behind(text, question, completions, fmt))
            for completions, (problem, question, text, prompt) in zip(part, todo)
        ]


def generate(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    keys: Sequence[tuple[object, ...]],
    **how: Any,
) -> list[list[Completion]]:
    """Answers to prompts of token ids, whatever they are: questions, judgements, half an answer.

    keys  one for each prompt; answer i of it depends on (*key, i) and on the policy alone
    how   the fields of engine.Sampling
    Returns group_size completions for each prompt. Raises UserError where prompt and answer would
    not fit the model's context.
    """
    parts = _generate_parts(policy, prompts, keys, Sampling(**how))
    return [completions for part in parts for completions in part]


def _generate_parts(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    keys: Sequence[tuple[object, ...]],
    how: Sampling,
) -> Iterator[list[list[Completion]]]:
    """generate, some prompts at a time; by the policy's engine, if it has one."""
    for prompt, key in zip(prompts, keys, strict=True):
        check_context(policy, prompt, how.max_new_tokens, key)
    engine, n = policy.engine, how.group_size
    rows_at_once = ROWS_AT_ONCE if engine is None else engine.rows_at_once
    sample = partial(sample_answers, policy) if engine is None else engine.generate
    at_once = max(1, rows_at_once // n)
    for first in range(0, len(prompts), at_once):
        part = slice(first, first + at_once)
        flat = sample(prompts[part], keys[part], how)
        yield [flat[i : i + n] for i in range(0, len(flat), n)]


def check_context(
    policy: Policy, prompt: Sequence[int], max_new_tokens: int, key: tuple[object, ...]
) -> None:
    """Raises UserError where a prompt and its answer would not fit."""
    if len(prompt) + max_new_tokens > policy.max_length:
        raise UserError(
            f"the prompt of {key[-1]!r} has {len(prompt)} tokens and the answer may have "
            f"{max_new_tokens}: together they must fit the model's context (with vLLM, what "
            f"engine_memory has room for) of {policy.max_length}. Lower max_new_tokens to at most "
            f"{max(policy.max_length - len(prompt), 0)}, or shorten the question."
        )


def random_key(key: tuple[object, ...]) -> int:
    """128 bits that depend on the key alone."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, key)).encode()).digest()[:16], "big")


def _uniforms(key: tuple[object, ...], n: int) -> np.ndarray:
    """n random numbers in [0, 1) that depend on the key alone."""
    return np.random.Generator(np.random.Philox(key=random_key(key))).random(n)


def pick(
    logits: torch.Tensor, uniform: torch.Tensor, temperature: float, top_p: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose one token per row by inverting the cumulative distribution at `uniform`.

    logits (B, V), uniform (B,) in [0, 1). temperature 0 takes the likeliest token.
    Returns token ids (B,) and their log-probabilities (B,) under softmax(logits / temperature);
    top_p narrows the choice but not this log-probability.
    """
    if temperature == 0:
        ids = logits.argmax(-1)
        return ids, torch.zeros_like(uniform, dtype=torch.float32)
    logits = logits.float() if temperature == 1.0 else logits.float() / temperature
    probs = allowed = torch.softmax(logits, -1)
    if top_p < 1:
        ordered, order = probs.sort(dim=-1, descending=True, stable=True)
        # a token stays while the probability before it is below top_p; the first always does
        ordered = ordered * (ordered.cumsum(-1) - ordered < top_p)
        allowed = torch.zeros_like(probs).scatter(-1, order, ordered)
    cumulative = allowed.cumsum(-1, dtype=torch.double)
    ids = torch.searchsorted(cumulative, (uniform * cumulative[:, -1])[:, None], right=True)
    ids = ids.clamp(max=logits.shape[-1] - 1)
    return ids[:, 0], probs.gather(-1, ids)[:, 0].log()


def read_prompts(
    model: Any, prompts: Sequence[Sequence[int]], pad_id: int, cache: Cache
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fill an empty KV cache with P prompts, padded on the left to one width S.

    Returns the logits (P, V) of each prompt's last token and the mask (P, S), True on its tokens.
    """
    width = max(map(len, prompts))
    pads = [width - len(prompt) for prompt in prompts]
    device = model.device
    tokens = torch.tensor([[pad_id] * n + [*p] for n, p in zip(pads, prompts)], device=device)
    mask = torch.tensor([[0] * n + [1] * (width - n) for n in pads], device=device)
    position = (mask.cumsum(-1) - 1).clamp(min=0)
    inputs = _inputs(is_recurrent(model), tokens, mask, position, cache)
    body, weight = plain_head(model)
    if body is None:
        return model(**inputs, logits_to_keep=1).logits[:, -1], mask.bool()
    # a flat product, which is the same to the last bit with and without gradients
    last = body(**inputs).last_hidden_state[:, -1]
    return torch.nn.functional.linear(last, weight), mask.bool()


def is_recurrent(model: Any) -> bool:
    """Whether the model carries a state from token to token (Mamba), and so no positions."""
    return "cache_params" in signature(model.forward).parameters


def _inputs(
    recurrent: bool, tokens: torch.Tensor, mask: torch.Tensor, position: torch.Tensor, cache: Cache
) -> dict[str, Any]:
    """What a forward pass is called with that goes on from a cache."""
    inputs = {"input_ids": tokens, "use_cache": True}
    if recurrent:  # a mask is for the padding before a prompt alone
        mask = mask if tokens.shape[1] > 1 else None
        return inputs | {"attention_mask": mask, "cache_params": cache}
    return inputs | {"attention_mask": mask, "position_ids": position, "past_key_values": cache}


class HFDecoder:
    """One more token for every row, through the model's own forward pass and its KV cache.

    Each prompt is read once, and what the model keeps of it is copied for its group.
    logits  (B, V) of the first tokens, B = P * group_size rows, ordered by prompt
    """

    compact_below = 0.85  # drop finished rows once no more than this share of rows would remain

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]], group_size: int, pad_id: int):
        self.model, self.cache = model, DynamicCache(config=model.config)
        self.recurrent = is_recurrent(model)
        logits, mask = read_prompts(model, prompts, pad_id, self.cache)
        rows = torch.arange(len(prompts), device=mask.device).repeat_interleave(group_size)
        self.cache.reorder_cache(rows)  # which every kind of cache can, also from P to B rows
        self.logits, self.attention_mask = logits[rows], mask[rows]  # (B, S + tokens so far)
        self.position = self.attention_mask.sum(-1, keepdim=True)

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Append tokens (B,); returns the logits (B, V) of the next ones."""
        one = self.attention_mask.new_ones(len(tokens), 1)
        self.attention_mask = torch.cat([self.attention_mask, one], -1)
        mask = self.attention_mask.long()
        inputs = _inputs(self.recurrent, tokens[:, None], mask, self.position, self.cache)
        self.position = self.position + 1
        return self.model(**inputs).logits[:, -1]

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these rows only, in this order."""
        self.cache.reorder_cache(rows)
        self.attention_mask, self.position = self.attention_mask[rows], self.position[rows]


def sample_answers(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    keys: Sequence[tuple[object, ...]],
    how: Sampling,
    decoder: Callable[..., Any] = HFDecoder,
) -> list[Completion]:
    """Answers to each prompt, by the model itself: see engine.Engine.generate."""
    n, limit = how.group_size, how.max_new_tokens
    uniforms = [_uniforms((*key, i), limit) for key in keys for i in range(n)]
    was_training = policy.model.training
    policy.model.eval()
    try:
        with torch.inference_mode():  # leaves no tensor behind, only numbers
            start = decoder(policy.model, prompts, n, policy.pad_id)
            return _decode(policy, start, np.stack(uniforms), how)
    finally:
        policy.model.train(was_training)


def _decode(policy: Policy, decoder: Any, uniforms: np.ndarray, how: Sampling) -> list[Completion]:
    """Sample token by token; rows of finished answers are dropped while the others go on.

    uniforms  (B, T) a random number for each token of each answer
    """
    device = policy.device  # looked up once, not at every token
    n_answers, limit = uniforms.shape
    draws = torch.from_numpy(uniforms).to(device).T.contiguous()  # (T, B), a row for every token
    answers = torch.arange(n_answers, device=device)  # which answer each row of the decoder is
    live = torch.ones(n_answers, dtype=torch.bool, device=device)  # rows that are not finished
    logits, written = decoder.logits, []
    ends = torch.zeros(logits.shape[-1], dtype=torch.bool, device=device)  # (V,) the stop tokens
    ends[[i for i in policy.stop_ids if i < len(ends)]] = True
    for t in range(limit):
        tokens, logps = pick(logits, draws[t].index_select(0, answers), how.temperature, how.top_p)
        written.append((answers[live], tokens[live], logps[live]))
        live = live & ~ends.index_select(0, tokens)
        n_live = int(live.sum())
        if n_live == 0 or t + 1 == limit:
            break
        if n_live < len(live) and n_live <= decoder.compact_below * len(live):
            rows = surviving_rows(live)
            decoder.keep(rows)
            answers, tokens, live = answers[rows], tokens[rows], live[rows]
        logits = decoder.step(tokens)
    return _completions(policy, written, n_answers)


def surviving_rows(live: torch.Tensor) -> torch.Tensor:
    """The live rows of (B,): most stay where they are, the last ones fill the gaps before them."""
    n = int(live.sum())
    rows = torch.arange(n, device=live.device)
    rows[~live[:n]] = live[n:].nonzero()[:, 0] + n
    return rows


def _completions(
    policy: Policy, written: list[tuple[torch.Tensor, ...]], n_answers: int
) -> list[Completion]:
    """Tokens as they were sampled, put together answer by answer."""
    owner, ids, logps = (torch.cat(part).cpu() for part in zip(*written))
    order, lengths = owner.argsort(stable=True), owner.bincount(minlength=n_answers).tolist()
    completions = []
    for part, values in zip(ids[order].split(lengths), logps[order].split(lengths)):
        tokens = tuple(part.tolist())
        text, is_cut = policy.decode(tokens), tokens[-1] not in policy.stop_ids
        completions.append(Completion(tokens, tuple(values.tolist()), text, is_cut))
    return completions
