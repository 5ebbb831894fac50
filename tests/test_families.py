"""Random Qwen2, Qwen3 and Llama with a byte-level BPE tokenizer go through the whole loop.

There a tag is several tokens, a word may be cut anywhere, and one Chinese sign is up to three
tokens: nothing may lean on the tiny world's one token per word.
"""

import json
from pathlib import Path

import pytest
import torch
import transformers
from conftest import VARIED
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from r1lite.config import preset
from r1lite.learn import train
from r1lite.policy import load_policy, sample_groups, token_logps
from r1lite.prompt import render, split_answer
from r1lite.world import make_problems

KINDS = {"Qwen2": {}, "Qwen3": {"head_dim": 8}, "Llama": {}}
TEXTS = [render(p.question, "r1-zero") for p in make_problems("countdown", "train", 30)]
ANSWER = "<think> 三 times 7 is 21 , 不 , wait </think>\n<answer> 3 * 7 </answer>"


@pytest.fixture(scope="module")
def byte_level() -> PreTrainedTokenizerFast:
    """Bytes and some merges, so that every text can be written."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, special_tokens=["<|endoftext|>"]
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    )


@pytest.fixture(scope="module", params=KINDS)
def folder(request, byte_level, tmp_path_factory) -> str:
    """A model folder as the hub has them: no code of its own beside it."""
    config = getattr(transformers, f"{request.param}Config")(
        vocab_size=len(byte_level),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.1,
        bos_token_id=None,
        eos_token_id=byte_level.eos_token_id,
        pad_token_id=byte_level.pad_token_id,
        **KINDS[request.param],
    )
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp(request.param) / "model"
    getattr(transformers, f"{request.param}ForCausalLM")(config).save_pretrained(path)
    byte_level.save_pretrained(path)
    return str(path)


def test_texts_come_back_and_a_tag_is_several_tokens(folder):
    policy = load_policy(folder, device="cpu")
    assert len(policy.encode("<think>")) > 1
    for text in (*TEXTS[:3], ANSWER):
        assert policy.decode(policy.encode(text)) == text
    said = policy.decode([*policy.encode(ANSWER), policy.stop_id])
    assert split_answer(said).final == "3 * 7"


def test_every_rule_reads_such_answers(folder):
    """An answer that the model could write is worth what it says, whatever its tokens."""
    from r1lite.rewards import accuracy_reward, format_reward, language_reward
    from r1lite.world import countdown, keyed_rng

    policy = load_policy(folder, device="cpu")
    problem = countdown.make(countdown.clusters(3)[40], "en", keyed_rng("family"))
    solution = countdown.solutions(tuple(sorted(problem.gold["numbers"])))[problem.gold["target"]][
        0
    ]
    text = policy.decode(policy.encode(f"<think> hm </think> <answer> {solution} </answer>"))
    columns = {"prompts": ["q"], "completions": [text], "problem": [problem]}
    assert accuracy_reward(**columns) == format_reward(**columns) == [1.0]
    assert language_reward(**columns) == [1.0]


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_the_whole_loop(folder, tuning, tmp_path):
    cfg = preset(
        "tiny", model=folder, template="r1-zero", tuning=tuning, device="cpu", n_problems=3,
        group_size=4, max_new_tokens=24, steps=4, checkpoint_every=2, samples_every=1,
        learning_rate=2e-3, warmup_steps=0, beta=0.01, n_minibatches=2,
        run_dir=str(tmp_path / "run"),
    )  # fmt: skip
    found = train(cfg, rewards=VARIED, progress=False)
    assert [log.step for log in found.logs] == [1, 2, 3, 4]
    assert all(log.sampler_gap < 1e-4 and log.grad_norm > 0 for log in found.logs)
    assert found.logs[-1].kl > 0
    rows = Path(tmp_path / "run/rollouts.jsonl").read_text(encoding="utf-8").splitlines()
    assert not [row for row in rows if "endoftext" in json.loads(row)["answer"]]
    # the result is an ordinary folder, which samples what the policy samples
    final = str(tmp_path / "run/final")
    ids = torch.arange(5, 45).view(2, 20)
    with torch.no_grad():
        ours = token_logps(found.policy.model, ids)
        theirs = token_logps(AutoModelForCausalLM.from_pretrained(final), ids)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    again = AutoTokenizer.from_pretrained(final)
    assert again.decode(again(ANSWER)["input_ids"]) == ANSWER


def test_the_sampler_has_the_trainers_log_probabilities(folder):
    policy = load_policy(folder, device="cpu")
    torch.manual_seed(1)
    with torch.no_grad():
        for p in policy.model.parameters():
            p.add_(0.05 * torch.randn_like(p))
    problems = make_problems("countdown", "train", 2)
    for group in sample_groups(
        policy, problems, group_size=2, max_new_tokens=16, template="r1-zero"
    ):
        for answer in group.completions:
            ids = torch.tensor([[*group.prompt_ids, *answer.token_ids]])
            with torch.no_grad():
                logps = token_logps(policy.model, ids)[0, len(group.prompt_ids) - 1 :]
            torch.testing.assert_close(logps, torch.tensor(answer.logps), atol=2e-5, rtol=0)
