"""What several test files share: a mini model in place of the base, and a run of seconds."""

import contextlib
import importlib.util
import io
import os

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")

import pytest
import torch

from r1lite.config import RunConfig, preset
from r1lite.learn import update as learn_update
from r1lite.learn.optimizer import optimizer_step
from r1lite.learn.rollout import sample, score_all
from r1lite.learn.update import backward, compute_advantages
from r1lite.policy.load import Policy, load_policy, save_policy
from r1lite.stages.base import make_model, make_tokenizer

torch.set_num_threads(1)

# A learner's environment lacks what the deep tests import; `make test-deep` has one of its own.
collect_ignore = [] if importlib.util.find_spec("hypothesis") else ["deep"]

MINI_SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.1,
    "tie_word_embeddings": False,
}


@pytest.fixture(scope="session")
def tokenizer():
    return make_tokenizer()


@pytest.fixture(scope="session")
def mini_folder(tokenizer, tmp_path_factory) -> str:
    """A random Qwen2 that stops after about ten words, so that lengths differ."""
    model = make_model(tokenizer, seed=7, shape=MINI_SHAPE)
    with torch.no_grad():  # one direction of the hidden state is nearly constant: it makes a bias
        model.model.embed_tokens.weight[:, 0] = 0.3
        model.lm_head.weight[tokenizer.eos_token_id, 0] = 2.0
    folder = tmp_path_factory.mktemp("mini") / "model"
    save_policy(Policy(model, tokenizer, MINI_SHAPE["max_position_embeddings"]), folder)
    return str(folder)


@pytest.fixture
def mini(mini_folder) -> Policy:
    """A fresh copy for a test that may change its weights."""
    return load_policy(mini_folder, device="cpu")


@pytest.fixture
def cfg(mini_folder, tmp_path) -> RunConfig:
    """Six updates in a second or two."""
    return preset(
        "tiny",
        model=mini_folder,
        device="cpu",
        n_problems=3,
        group_size=4,
        max_new_tokens=16,
        steps=6,
        learning_rate=3e-3,
        warmup_steps=2,
        checkpoint_every=3,
        samples_every=1,
        run_dir=str(tmp_path / "run"),
    )


def word_reward(prompts, completions, **columns):
    """A reward that differs between random answers: the share of short words."""
    shares = []
    for text in completions:
        words = text.split()
        shares.append(sum(len(word) < 3 for word in words) / max(len(words), 1))
    return shares


VARIED = {"accuracy": word_reward, "format": word_reward}


def minibatches(groups, cfg, step, policy=None, reference=None):
    """Groups -> rows with advantages, cut into updates, as the loop does it."""
    advantages = compute_advantages(groups, cfg, policy, reference)
    return learn_update.minibatches(groups, advantages, cfg, step, policy)


def update(policy, rows, optimizer, cfg, step, reference=None):
    """Loss, gradient and one step of the optimizer, as the loop does it; its metrics."""
    loss = backward(policy, rows, cfg, reference)
    return loss | optimizer_step(policy, [optimizer], cfg, step)


def rollout(policy, problems, cfg, step, rewards=None):
    """Problems -> scored groups, as the loop does it."""
    return score_all(sample(policy, problems, cfg, step), cfg, rewards)


def complaint_of(check, *answer) -> str:
    """What a check of an exercise prints about a wrong answer; nothing is raised."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        check(*answer)
    message = said.getvalue().removesuffix("\n")
    assert message and not message.endswith((": right.", "r1lite's version.")), message
    return message


def without_seconds(logs):
    """Logs or rows without the times, in which two runs differ."""
    return [{k: v for k, v in log.items() if k != "seconds"} for log in logs]


@pytest.fixture
def exact_norms(monkeypatch):
    """transformers rounds to float32 inside its norms, which would hide differences below 1e-7."""
    from transformers.models import gemma2, llama, qwen2, qwen3

    def forward(self, x):
        eps = getattr(self, "variance_epsilon", None) or self.eps
        weight = self.weight + (1.0 if "Gemma" in type(self).__name__ else 0.0)
        return weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)

    for norm in (
        gemma2.modeling_gemma2.Gemma2RMSNorm,
        llama.modeling_llama.LlamaRMSNorm,
        qwen2.modeling_qwen2.Qwen2RMSNorm,
        qwen3.modeling_qwen3.Qwen3RMSNorm,
    ):
        monkeypatch.setattr(norm, "forward", forward)
