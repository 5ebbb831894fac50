"""Problems -> groups of answers: the decoding loop.

Sampling is keyed by (seed, step, problem, answer): each answer brings its own row of random
numbers, so batch size, rows that finish early and resumption cannot change what is sampled.
"""

import hashlib
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice

import numpy as np
import torch

from ..prompt import render
from ..records import Completion, Group, Problem, UserError
from .decoder import start_decoding
from .load import Policy
from .savings import saves

ROWS_AT_ONCE = 512  # more rows cost memory and, on a CPU, gain little
ROUND = 8  # rows remain in a multiple of this: oneDNN compiles a product for every new number


def sample_groups(
    policy: Policy,
    problems: Sequence[Problem],
    *,
    group_size: int,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    template: str = "tiny",
    seed: int = 0,
    step: int = 0,
) -> list[Group]:
    """Sample group_size answers to each problem.

    max_new_tokens  length limit T of an answer; one that reaches it is marked truncated
    top_p           keep the likeliest tokens that hold this much probability; 1 keeps all
    step            part of the random key; use the step of the run, or 0 for an evaluation
    Raises UserError where prompt and answer would not fit the model's context.
    """
    parts = sample_parts(
        policy, problems, group_size, max_new_tokens, temperature, top_p, template, (seed, step)
    )
    return [group for part in parts for group in part]


def sample_parts(
    policy: Policy,
    problems: Sequence[Problem],
    group_size: int,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    template: str,
    key: tuple[int, int],
) -> Iterator[list[Group]]:
    """The groups of sample_groups, some at a time, as they are written; key: (seed, step)."""
    prompts = [policy.encode(render(problem.question, template)) for problem in problems]
    for problem, prompt in zip(problems, prompts):
        if len(prompt) + max_new_tokens > policy.max_length:
            raise UserError(
                f"the prompt of {problem.problem_id!r} has {len(prompt)} tokens and the answer may "
                f"have {max_new_tokens}: together they must fit the model's context (with vLLM, "
                f"what engine_memory has room for) of {policy.max_length}. Lower max_new_tokens to "
                f"at most {max(policy.max_length - len(prompt), 0)}, or shorten the question."
            )
    engine = policy.engine
    at_once = max(1, (ROWS_AT_ONCE if engine is None else engine.rows_at_once) // group_size)
    write = partial(write_answers, policy) if engine is None else engine.write
    for first in range(0, len(problems), at_once):
        part = slice(first, first + at_once)
        keys = [(*key, problem.problem_id) for problem in problems[part]]
        written = iter(write(prompts[part], keys, group_size, max_new_tokens, temperature, top_p))
        yield [
            Group(problem, tuple(prompt), tuple(islice(written, group_size)))
            for problem, prompt in zip(problems[part], prompts[part])
        ]


def write_answers(
    policy: Policy,
    prompts: list[list[int]],
    keys: Sequence[tuple[object, ...]],
    group_size: int,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
) -> list[Completion]:
    """group_size answers to each prompt; keys: what the sampling of each depends on."""
    uniforms = [_uniforms((*key, i), max_new_tokens) for key in keys for i in range(group_size)]
    was_training = policy.model.training
    policy.model.eval()
    try:
        return _decode(policy, prompts, group_size, np.stack(uniforms), temperature, top_p)
    finally:
        policy.model.train(was_training)


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


def arranged(
    row_of: torch.Tensor, chosen: torch.Tensor, n_rows: int, at_most: int, compact_below: float
) -> tuple[torch.Tensor | None, torch.Tensor, torch.Tensor]:
    """Rows for answers that go on; those that read one row and chose other tokens part.

    row_of, chosen  (A,) the row of the decoder that each answer read, and the token it chose
    Returns which of the n_rows each row is to be from now on, None if each stays what it is; the
    row (A,) of each answer; and for each row an answer on it (the first, if none is). As few rows
    as possible move: the others need not be copied.
    """
    device, of, said = chosen.device, row_of.cpu().numpy(), chosen.cpu().numpy()
    _, first, kind = np.unique(of * (said.max() + 1) + said, return_index=True, return_inverse=True)
    origin = of[first]
    n = min(-(-len(first) // ROUND) * ROUND, at_most)
    if n < n_rows and not (saves("drop_finished_rows") and n <= compact_below * n_rows):
        n = n_rows
    stays = origin < n
    stays[1:] &= origin[1:] != origin[:-1]  # the first of those that part has the row
    free = np.ones(n, bool)
    free[origin[stays]] = False
    row = origin.copy()
    row[~stays] = np.flatnonzero(free)[: len(row) - stays.sum()]
    rows, lead = np.minimum(np.arange(n), n_rows - 1), np.zeros(n, int)
    rows[row], lead[row] = origin, first
    same = n == n_rows and stays.all()
    rows, row_of, lead = (torch.from_numpy(x).to(device) for x in (rows, row[kind], lead))
    return None if same else rows, row_of, lead


@torch.inference_mode()  # leaves no tensor behind, only numbers
def _decode(
    policy: Policy,
    prompts: list[list[int]],
    group_size: int,
    uniforms: np.ndarray,
    temperature: float,
    top_p: float,
) -> list[Completion]:
    """Write answers token by token: a prompt is read once a group, answers that begin alike are
    one row of the decoder until they part, rows of finished ones are dropped."""
    device, stop_id = policy.device, policy.stop_id  # looked up once, not at every token
    total, limit = uniforms.shape
    logits, decoder = start_decoding(policy.model, prompts, group_size, policy.pad_id)
    draws = torch.from_numpy(uniforms).to(device).T.contiguous()  # (T, B), a row for every token
    answers = torch.arange(total, device=device)  # those that are being written
    alike = total // len(logits)
    row_of, lead = answers // alike, answers[::alike]  # of each its row; of each row one of its own
    written = []
    for t in range(limit):
        uniform = draws[t].index_select(0, answers)
        chosen, logp = pick(logits.index_select(0, row_of), uniform, temperature, top_p)
        written.append((answers, chosen, logp))
        goes_on, tokens = chosen != stop_id, chosen.index_select(0, lead)
        if t + 1 == limit:
            break
        if not bool((goes_on & (tokens.index_select(0, row_of) == chosen)).all()):
            answers, row_of, chosen = answers[goes_on], row_of[goes_on], chosen[goes_on]
            if not len(answers):
                break
            rows, row_of, lead = arranged(row_of, chosen, len(logits), total, decoder.COMPACT_BELOW)
            if rows is not None:
                decoder.keep(rows)
            tokens = chosen.index_select(0, lead)
        logits = decoder.step(tokens)
    owner, ids, logps = (torch.cat(part).cpu() for part in zip(*written))
    order, lengths = owner.argsort(stable=True), owner.bincount(minlength=total).tolist()
    found = []
    for part, values in zip(ids[order].split(lengths), logps[order].split(lengths)):
        tokens, logps = tuple(part.tolist()), tuple(values.tolist())
        found.append(Completion(tokens, logps, policy.decode(tokens), tokens[-1] != stop_id))
    return found
