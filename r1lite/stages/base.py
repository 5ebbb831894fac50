"""Making the tiny base: a small Qwen2 that reads documents of the tiny world, from scratch.

No step of it is R1; it is what DeepSeek-V3-Base is to R1-Zero: a model that has read much,
right and wrong, and that no one has yet rewarded for anything.
"""

import time
from pathlib import Path

import torch

from ..policy.load import TOKENIZER_MAP, Policy, save_policy
from ..records import UserError
from ..runlog import append_jsonl, atomic_path, truncate_jsonl
from .documents import PAD_TOKEN, STOP_TOKEN, UNKNOWN_TOKEN, document, vocabulary
from .sft import next_token_backward

SHAPE = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
}
DOCUMENTS_PER_STEP = 64
MUON_LR, ADAM_LR, WARMUP = 0.02, 3e-3, 30
STEPS = 5000
SAVE_EVERY = 200


def make_tokenizer():
    """A word-level tokenizer over documents.vocabulary(); decoding joins words with one space."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {word: i for i, word in enumerate(vocabulary())}
    core = Tokenizer(models.WordLevel(words, unk_token=UNKNOWN_TOKEN))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=STOP_TOKEN,
        pad_token=PAD_TOKEN,
        unk_token=UNKNOWN_TOKEN,
        clean_up_tokenization_spaces=False,
        model_max_length=SHAPE["max_position_embeddings"],
    )
    tokenizer.init_kwargs["auto_map"] = TOKENIZER_MAP
    return tokenizer


def make_model(tokenizer, seed: int, shape: dict | None = None):
    """A Qwen2 with random weights."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **(shape or SHAPE),
    )
    return Qwen2ForCausalLM(config)


def _optimizers(model) -> list[torch.optim.Optimizer]:
    """Muon for the matrices, AdamW for embeddings, norms and biases.

    In short trials its loss fell sooner than with AdamW alone.
    """
    named = list(model.named_parameters())
    matrices = [p for n, p in named if p.ndim == 2 and "embed" not in n]
    rest = [p for n, p in named if not (p.ndim == 2 and "embed" not in n)]
    return [
        torch.optim.Muon(matrices, lr=MUON_LR, weight_decay=0.0),
        torch.optim.AdamW(rest, lr=ADAM_LR, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]


def rate_factor(step: int, steps: int) -> float:
    """Share of the peak learning rate at a step (from 0): a warm-up, then a line down to 0.

    >>> rate_factor(0, 5000) < 0.04, rate_factor(2500, 5000), rate_factor(3750, 5000)
    (True, 0.5, 0.25)
    """
    return min(1.0, (step + 1) / WARMUP) * (1 - step / steps)


def build_base(
    out: Path | str,
    *,
    steps: int = STEPS,
    seed: int = 0,
    reflect: bool = True,
    work: Path | str = "runs/base",
    budget: int = 1024,
    progress: bool = True,
) -> Path:
    """Train the base and write it to `out`; resumes by itself from `work` if it was stopped.

    reflect  False makes the no-reflection base: the same documents without reflection markers
    Returns the folder. Progress goes to work/metrics.jsonl: step, tokens, loss, seconds.
    """
    from tqdm import tqdm

    if steps < 1:
        raise UserError(
            f"steps={steps}: a base needs at least 1 step; the shipped one took {STEPS}."
        )
    work = Path(work)
    work.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer()
    words = tokenizer.get_vocab()
    model = make_model(tokenizer, seed)
    optimizers = _optimizers(model)
    peaks = [o.param_groups[0]["lr"] for o in optimizers]
    start, tokens, seconds = 0, 0, 0.0
    settings = {"steps": steps, "seed": seed, "reflect": reflect}
    if (work / "state.pt").exists():
        state = torch.load(work / "state.pt", weights_only=True)
        if state["settings"] != settings:
            raise UserError(
                f"{work} holds a base with other settings ({state['settings']}, asked for "
                f"{settings}): a run is resumed with the settings it was begun with. "
                "Delete that folder or name another one."
            )
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"]):
            optimizer.load_state_dict(saved)
        start, tokens, seconds = state["step"], state["tokens"], state["seconds"]
        truncate_jsonl(work / "metrics.jsonl", start)
    begun = time.perf_counter() - seconds
    bar = tqdm(range(start, steps), initial=start, total=steps, desc="base", disable=not progress)
    for step in bar:
        documents = [
            [words[w] for w in document(seed, i, reflect=reflect).split()]
            + [tokenizer.eos_token_id]
            for i in range(step * DOCUMENTS_PER_STEP, (step + 1) * DOCUMENTS_PER_STEP)
        ]
        for optimizer, peak in zip(optimizers, peaks):
            optimizer.param_groups[0]["lr"] = peak * rate_factor(step, steps)
        loss = next_token_backward(model, documents, pad_id=tokenizer.pad_token_id, budget=budget)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        tokens += sum(map(len, documents))
        bar.set_postfix(loss=f"{loss:.3f}")
        done = step + 1
        if done % 20 == 0 or done == steps:
            seconds = time.perf_counter() - begun
            row = {"step": done, "tokens": tokens, "loss": loss, "seconds": round(seconds, 1)}
            append_jsonl(work / "metrics.jsonl", row)
        if done % SAVE_EVERY == 0 or done == steps:
            with atomic_path(work / "state.pt") as temporary:
                torch.save(
                    {
                        "model": model.state_dict(),
                        "optimizers": [o.state_dict() for o in optimizers],
                        "step": done,
                        "tokens": tokens,
                        "seconds": seconds,
                        "settings": settings,
                    },
                    temporary,
                )
    with atomic_path(out) as temporary:
        save_policy(Policy(model, tokenizer, SHAPE["max_position_embeddings"]), temporary)
    return Path(out)
