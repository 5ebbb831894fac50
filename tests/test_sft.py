"""Supervised training: the gradient by hand, what is trained of a row, order, schedules, errors."""

import json

import pytest
import torch

from r1lite.config import SftConfig
from r1lite.learn import train_sft
from r1lite.learn.batching import Row
from r1lite.learn.optimizer import learning_rate_factor
from r1lite.learn.sft import batches, read_examples, sft_backward, tokenise
from r1lite.records import UserError

ROWS = [
    {"prompt": "User : make 24 from 6 4 3 . Assistant :", "completion": "<think> 6 * 4 </think>"},
    {"prompt": "User : make 7 from 4 3 . Assistant :", "completion": "4 + 3"},
    {"text": "6 * 4 = 24 , 4 + 3 = 7 ."},
]


@pytest.fixture
def sft_cfg(mini_folder, tmp_path) -> SftConfig:
    return SftConfig(
        model=mini_folder, device="cpu", steps=6, batch_size=3, learning_rate=3e-3,
        warmup_steps=2, checkpoint_every=3, run_dir=str(tmp_path / "sft"),
    )  # fmt: skip


def by_hand(model, rows):
    """Gradient of the mean cross-entropy over trained tokens, one row at a time."""
    total, n = 0.0, sum(len(row.answer_ids) for row in rows)
    for row in rows:
        ids = torch.tensor([[*row.prompt_ids, *row.answer_ids]])
        logits = model(input_ids=ids).logits[0, :-1]
        loss = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
        total = total + loss[len(row.prompt_ids) - 1 :].sum() / n
    total.backward()
    return total.item()


@pytest.mark.parametrize("train_on", ["answers", "all"])
@pytest.mark.parametrize("budget", [1, 40, 10**6])
def test_loss_and_gradient_are_those_of_the_plain_loop(mini, sft_cfg, train_on, budget):
    cfg = sft_cfg.change(train_on=train_on, micro_batch_tokens=budget)
    mini.model.double()
    rows = tokenise(mini, ROWS, cfg)
    loss = sft_backward(mini, rows, cfg)["loss"]
    found = [p.grad.clone() for p in mini.model.parameters()]
    mini.model.zero_grad()
    assert loss == pytest.approx(by_hand(mini.model, rows), rel=1e-6)
    for mine, p in zip(found, mini.model.parameters()):
        assert torch.allclose(mine, p.grad, atol=1e-7)


def test_what_is_trained_of_a_row(mini, sft_cfg):
    pair, _, text = tokenise(mini, ROWS, sft_cfg)
    assert mini.decode(pair.prompt_ids) == ROWS[0]["prompt"]
    assert mini.decode(pair.answer_ids) == ROWS[0]["completion"]
    assert pair.answer_ids[-1] == text.answer_ids[-1] == mini.stop_id, "the stop token is taught"
    assert len(text.prompt_ids) == 1, "of a text all but the first token"
    whole, *_ = tokenise(mini, ROWS, sft_cfg.change(train_on="all"))
    assert len(whole.prompt_ids) == 1 and len(whole) == len(pair)


def test_every_row_once_an_epoch_in_an_order_of_the_seed(sft_cfg):
    rows = [Row([i], [i]) for i in range(7)]
    source = batches(sft_cfg, rows)
    read = [row.prompt_ids[0] for step in range(7) for row in source(step)]
    epochs = [read[i : i + 7] for i in (0, 7, 14)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert source(3) == batches(sft_cfg, rows)(3) != batches(sft_cfg.change(seed=1), rows)(3)


def test_schedules_by_hand(sft_cfg):
    cfg = sft_cfg.change(steps=100, warmup_steps=10)
    assert learning_rate_factor(cfg, 5) == 0.5 and learning_rate_factor(cfg, 100) == 1.0
    linear = cfg.change(schedule="linear")
    assert learning_rate_factor(linear, 51) == pytest.approx(0.5)
    cosine = cfg.change(schedule="cosine", min_learning_rate=0.1)
    assert learning_rate_factor(cosine, 51) == pytest.approx(0.1 + 0.9 * 0.5)
    assert learning_rate_factor(cosine, 100) == pytest.approx(0.1, abs=1e-3)


def test_it_learns_and_its_result_is_a_policy(sft_cfg):
    result = train_sft(sft_cfg.change(steps=40), ROWS, progress=False)
    assert result.logs[-1].loss < 0.5 * result.logs[0].loss
    assert {"loss", "grad_norm", "tokens_trained", "seconds"} <= set(result.logs[-1])
    assert (result.run_dir / "final" / "model.safetensors").exists()


def test_an_adapter_is_trained_alone(sft_cfg):
    result = train_sft(sft_cfg.change(tuning="lora", lora_rank=4), ROWS, progress=False)
    assert (result.run_dir / "checkpoint-000006" / "adapter_model.safetensors").exists()
    assert (result.run_dir / "final" / "model.safetensors").exists(), "merged for export"


def test_rows_come_from_a_file_too(sft_cfg, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    from_file = train_sft(
        sft_cfg.change(data=str(path), run_dir=str(tmp_path / "a")), progress=False
    )
    in_memory = train_sft(sft_cfg, ROWS, progress=False)
    assert [log.loss for log in from_file.logs] == [log.loss for log in in_memory.logs]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (None, "nothing to train on.*data="),
        ([], "holds no rows"),
        ([{"prompt": "a"}], "row 1 has prompt.*completion"),
        ([ROWS[0], {"question": "a"}], "row 2 has question"),
    ],
)
def test_what_is_wrong_with_rows_is_named(sft_cfg, rows, words):
    with pytest.raises(UserError, match=words):
        read_examples(sft_cfg, rows)


def test_a_row_that_does_not_fit_the_context_is_named(mini, sft_cfg):
    with pytest.raises(UserError, match="example 2 has .* tokens.*128"):
        tokenise(mini, [ROWS[0], {"text": "6 " * 200}], sft_cfg)


def test_other_rows_in_the_same_folder_are_refused(sft_cfg):
    train_sft(sft_cfg, ROWS, progress=False)
    with pytest.raises(UserError, match="other examples"):
        train_sft(sft_cfg, ROWS[:2], progress=False)
