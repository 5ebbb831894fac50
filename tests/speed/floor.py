"""The floor of a step: the seconds that its arithmetic alone needs on this machine.

Matrix products at the model's own shapes, timed here, attention's among them (only the part below
the diagonal), and the keys and values that decoding must read, at the memory speed measured here.
Norms, activations, sampling, Python and padding count nothing.
"""

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch

PROBES = 20  # the best one counts: a slow probe would raise the floor and flatter us


def best_seconds(work) -> float:
    work()
    best = float("inf")
    for _ in range(PROBES):
        repeats, begun = 0, time.perf_counter()
        while repeats < 3 or time.perf_counter() - begun < 0.002:
            work()
            repeats += 1
        best = min(best, (time.perf_counter() - begun) / repeats)
    return best


def matrices(model: Any) -> Counter[tuple[int, int]]:
    """(inputs, outputs) -> how often a token is multiplied with a matrix of that shape."""
    head = model.get_output_embeddings()
    shapes = Counter(
        (m.in_features, m.out_features)
        for m in model.modules()
        if isinstance(m, torch.nn.Linear) and m is not head
    )
    shapes[(head.in_features, head.out_features)] += 1
    return shapes


def product_seconds(rows: int, inputs: int, outputs: int, dtype: torch.dtype) -> float:
    """Best time of one (rows, inputs) x (inputs, outputs) product."""
    a, b = torch.randn(rows, inputs, dtype=dtype), torch.randn(outputs, inputs, dtype=dtype)
    return best_seconds(lambda: torch.nn.functional.linear(a, b))


def memory_speed() -> float:
    """Bytes read or written per second by a copy that is larger than the caches."""
    source = torch.empty(64 * 2**20)
    target = torch.empty_like(source)
    return 2 * source.numel() * 4 / best_seconds(lambda: target.copy_(source))


def rows_per_token(lengths: Sequence[int]) -> list[int]:
    """How many answers are still being written at token 1, 2, ... of a rollout.

    >>> rows_per_token([1, 3, 3])
    [3, 2, 2]
    """
    return [sum(length > t for length in lengths) for t in range(max(lengths))]


def attention_seconds(
    config: Any, width: int, lengths: Sequence[int], prompt: float, dtype: torch.dtype
) -> float:
    """Attention's products in training: two forward and four backward a layer and head."""
    mean = sum(lengths) / len(lengths)
    pairs = sum(n * (prompt + n / 2) for n in lengths)  # (query, key) pairs below the diagonal
    a = torch.randn(64, round(mean), width, dtype=dtype)
    b = torch.randn(64, width, round(prompt + mean / 2), dtype=dtype)
    per_pair = best_seconds(lambda: a @ b) / (a.shape[0] * a.shape[1] * b.shape[2])
    return 6 * config.num_hidden_layers * config.num_attention_heads * pairs * per_pair


def floor(
    model: Any, prompts: Sequence[int], lengths: Sequence[int], chunk: int
) -> dict[str, float]:
    """Seconds that a step cannot go below: {"rollout", "train", "step"}.

    prompts  tokens of each prompt, which is read once; lengths: of each answer sampled
    chunk    tokens of a micro-batch, the height of the products timed for training
    """
    dtype, shapes = next(model.parameters()).dtype, matrices(model)
    sizes = sorted({1 << (n - 1).bit_length() for n in rows_per_token(lengths)})
    decode = {
        size: sum(n * product_seconds(size, *shape, dtype) for shape, n in shapes.items()) / size
        for size in sizes
    }
    # at a height between two powers of two, the better of both rates
    rollout = 0.0
    for n in rows_per_token(lengths):
        above = 1 << (n - 1).bit_length()
        rollout += n * min(decode[size] for size in (above, above // 2) if size in decode)
    config = model.config
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    kv = 2 * config.num_hidden_layers * config.num_key_value_heads * width * dtype.itemsize
    prompt_tokens, mean_prompt = sum(prompts), sum(prompts) / len(prompts)
    read = sum(kv * (n * mean_prompt + n * (n + 1) / 2) for n in lengths)
    train = 0.0
    for (inputs, outputs), n in shapes.items():
        forward = product_seconds(chunk, inputs, outputs, dtype)
        to_input = product_seconds(chunk, outputs, inputs, dtype)
        to_weight = product_seconds(outputs, chunk, inputs, dtype)
        train += n * (forward + to_input + to_weight)
    train *= (prompt_tokens + sum(lengths)) / chunk
    train += attention_seconds(config, width, lengths, mean_prompt, dtype)
    per_token = sum(n * product_seconds(chunk, *s, dtype) for s, n in shapes.items()) / chunk
    rollout += prompt_tokens * per_token + read / memory_speed()
    return {"rollout": rollout, "train": train, "step": rollout + train}
