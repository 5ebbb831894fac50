"""Twenty questions of a newcomer, written down before the rooms were looked at: the names of the
folders and files must lead to the answer, which stands in that file under that name."""

import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "r1lite"

QUESTIONS = {
    "Where is the KL estimator?": ("learn/objective.py", "def kl_estimate"),
    "Where is the loss of GRPO?": ("learn/objective.py", "def grpo_loss"),
    "Where are advantages computed?": ("learn/objective.py", "def group_advantages"),
    "Where is the training loop of R1-Zero?": ("learn/grpo.py", "def grpo"),
    "Where is supervised fine-tuning?": ("learn/sft.py", "def train_sft"),
    "Who decides that a run is resumed?": ("learn/run.py", "class Run"),
    "What makes two runs the same run?": ("learn/identity.py", "def identity_of"),
    "Where are checkpoints written?": ("learn/checkpoint.py", "def save_checkpoint"),
    "Which settings are there?": ("config.py", "class RunConfig"),
    "What does a number of the log mean?": ("records.py", "METRICS"),
    "Where is the R1-Zero template?": ("prompt", "R1_ZERO_TEMPLATE"),
    "Where is an answer taken apart?": ("prompt", "def split"),
    "Where would I add a reward?": ("rewards/rules.py", "def accuracy_reward"),
    "Where would I add a checker for my own task?": ("world/checkers.py", "CHECKERS"),
    "Where do countdown problems come from?": ("world/countdown.py", "def make"),
    "Where would I add a benchmark?": ("world/datasets.py", "gsm8k"),
    "Where are answers sampled, token by token?": ("policy/sample.py", "def pick"),
    "Where are log-probabilities of tokens?": ("policy/logprobs.py", "def token_logps"),
    "What only saves time on a CPU?": ("fast", "workers"),
    "Where is pass@k?": ("evaluation/report.py", "def pass_at_k"),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_names_lead_to_the_answer(question):
    place, words = QUESTIONS[question]
    path = PACKAGE / place
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    assert any(words in file.read_text(encoding="utf-8") for file in files), f"{place}: {words}"


def test_the_map_names_every_room_and_nothing_else():
    text = (PACKAGE / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 80, "one page"
    rooms = {p.name for p in PACKAGE.iterdir() if p.is_dir() and any(p.glob("*.py"))}
    named = set(re.findall(r"^\| `(\w+)/` \|", text, re.MULTILINE))
    assert named == rooms
    for name in re.findall(r"`([\w/]+\.py)`", text):
        assert (PACKAGE / name).exists(), name
