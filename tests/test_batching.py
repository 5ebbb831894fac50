"""Cutting a batch up is for memory: it must never change a gradient."""

import copy
import math
import random
from dataclasses import replace

import pytest
import torch
from conftest import VARIED, minibatches, rollout, update

from r1lite.config import SftConfig, preset
from r1lite.fast.optimizations import disabled
from r1lite.learn import train
from r1lite.learn.batching import Row, pad_right, to_batch, to_rows, token_budget_chunks
from r1lite.learn.objective import OBJECTIVES
from r1lite.learn.rollout import draw_problems
from r1lite.learn.sft import sft_backward
from r1lite.policy.adapters import Reference
from r1lite.policy.load import Policy
from r1lite.policy.logprobs import token_logps
from r1lite.records import Completion, Group, Problem, UserError


class RecordingOptimizer:
    """Keeps the gradient instead of following it."""

    def __init__(self, model):
        self.parameters = list(model.parameters())
        self.param_groups = [{"params": self.parameters, "lr": 1.0}]
        self.gradient = None

    def step(self):
        zero = torch.zeros_like
        self.gradient = [zero(p) if p.grad is None else p.grad.clone() for p in self.parameters]

    def zero_grad(self, set_to_none=True):
        for p in self.parameters:
            p.grad = None


@pytest.fixture
def exact(mini, exact_norms) -> Policy:
    """The mini model in float64, where a different order of sums is no excuse."""
    return Policy(mini.model.double(), mini.tokenizer, mini.max_length)


@pytest.fixture
def rows(exact) -> list[Row]:
    """Twelve ragged answers; a third have no advantage; old log-probabilities are a bit off."""
    rng, made = random.Random(0), []
    for i in range(12):
        prompt = [rng.randrange(3, 400) for _ in range(rng.randint(1, 9))]
        answer = [rng.randrange(3, 400) for _ in range(rng.randint(1, 14))] + [exact.stop_id]
        with torch.no_grad():
            logps = token_logps(exact.model, torch.tensor([prompt + answer]))[0, len(prompt) - 1 :]
        logps = [float(logp) + rng.gauss(0, 0.2) for logp in logps]
        made.append(Row(prompt, answer, logps, 0.0 if i % 3 == 0 else rng.gauss(0, 1)))
    return made


SETTINGS = preset("tiny", max_grad_norm=1e9, clip_epsilon=0.2, micro_batch_tokens=10**6)


def gradient(policy, rows, cfg=SETTINGS, reference=None):
    optimizer = RecordingOptimizer(policy.model)
    figures = update(policy, rows, optimizer, cfg, step=1, reference=reference)
    return optimizer.gradient, figures


def naive_gradient(policy, rows, cfg, reference=None):
    """One row at a time, no padding, no chunks, each loss written out."""
    policy.model.zero_grad()
    mean = sum(len(row.answer_ids) for row in rows) / len(rows)
    for row in rows:
        ids, first = torch.tensor([[*row.prompt_ids, *row.answer_ids]]), len(row.prompt_ids) - 1
        new = token_logps(policy.model, ids)[0, first:]
        # the library keeps the sampler's log-probabilities in float32
        old = torch.tensor(row.logps, dtype=torch.float32).double()
        off = torch.zeros_like(old)
        if cfg.importance_cap:  # what wrote the answer is not quite the policy
            sampler, old = old, new.detach()
            if row.trainer_logps is not None:
                old = torch.tensor(row.trainer_logps, dtype=torch.float32).double()
            off = old - sampler
        ratio, a = (new - old).exp(), float(torch.tensor(row.advantage, dtype=torch.float32))
        log_ref = token_logps(reference, ids)[0, first:].detach() if reference else new.detach()
        low, high = 1 - cfg.clip_epsilon, 1 + (cfg.clip_epsilon_high or cfg.clip_epsilon)
        if cfg.objective == "r1-printed":
            ratio, new, log_ref = ratio.prod(), new.sum(), log_ref.sum()
        if cfg.objective == "gspo":
            ratio = ratio.prod() ** (1 / len(row.answer_ids))
        gain = torch.minimum(ratio * a, ratio.clamp(low, high) * a)
        if cfg.objective == "cispo":
            gain = ratio.detach().clamp(max=high) * a * new
        if cfg.objective in ("r1-printed", "gspo"):
            off = off.sum() if cfg.objective == "r1-printed" else off.mean()
        gain = gain * (off.exp().clamp(max=cfg.importance_cap) if cfg.importance_cap else 1)
        kl_penalty = (log_ref - new).exp() - (log_ref - new) - 1
        divisor = {
            "sequence_mean": len(row.answer_ids),
            "token_mean": mean,
            "max_length": cfg.max_new_tokens,
        }
        per_token = (cfg.beta * kl_penalty - gain).expand(len(row.answer_ids))
        (per_token.sum() / divisor[cfg.loss_aggregation] / len(rows)).backward()
    found = [p.grad.clone() for p in policy.model.parameters()]
    policy.model.zero_grad()
    return found


def assert_same(found, expected, tolerance=1e-12):
    largest = max(g.abs().max().item() for g in expected)
    assert largest > 1e-4
    for a, b in zip(found, expected, strict=True):
        assert (a - b).abs().max().item() <= tolerance * max(1.0, largest)


LOSSES = [{"objective": form} for form in OBJECTIVES] + [
    {"loss_aggregation": "token_mean", "clip_epsilon_high": 0.28},
    {"loss_aggregation": "max_length"},
    {"objective": "cispo", "loss_aggregation": "token_mean"},
    {"objective": "gspo", "loss_aggregation": "token_mean"},
    *({"objective": form, "importance_cap": 1.1} for form in OBJECTIVES),
]


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("budget", [1, 20, 47, 100, 8192])
def test_any_micro_batch_gives_the_naive_gradient(exact, rows, loss, budget):
    cfg = SETTINGS.change(**loss, micro_batch_tokens=budget)
    found, figures = gradient(exact, rows, cfg)
    assert_same(found, naive_gradient(exact, rows, cfg))
    whole = gradient(exact, rows, SETTINGS.change(**loss))[1]
    del figures["tokens_computed"], whole["tokens_computed"]
    assert figures == pytest.approx(whole, rel=1e-9)


def test_computed_tokens_are_counted_with_their_padding(exact, rows):
    def computed(budget):
        figures = gradient(exact, rows, SETTINGS.change(micro_batch_tokens=budget))[1]
        return figures["tokens_computed"], figures["tokens_trained"]

    taught = [row for row in rows if row.advantage]
    prompts = {tuple(row.prompt_ids) for row in taught}
    read = len(prompts) * max(map(len, prompts))
    answers, whole = [len(row.answer_ids) for row in taught], list(map(len, taught))
    assert computed(10**6)[0] == read + sum(answers) + 1  # packed: one batch
    assert computed(1)[0] == read + sum(n + 1 for n in answers)
    assert computed(1)[1] == sum(map(len, prompts)) + sum(answers)
    with disabled("packed_training"):
        assert computed(10**6) == (len(whole) * max(whole), sum(whole))
        assert computed(1) == (sum(whole), sum(whole))


@pytest.mark.parametrize("form", OBJECTIVES)
@pytest.mark.parametrize("budget", [20, 8192])
def test_later_updates_know_what_the_trainer_made_of_an_answer(exact, rows, form, budget):
    """Then the ratio is new to trainer, the weight trainer to sampler; neither is 1."""
    rng = random.Random(1)
    rows = [
        replace(row, trainer_logps=[logp + rng.gauss(0, 0.2) for logp in row.logps]) for row in rows
    ]
    cfg = SETTINGS.change(objective=form, importance_cap=1.01, micro_batch_tokens=budget)
    expected = naive_gradient(exact, rows, cfg)
    assert_same(gradient(exact, rows, cfg)[0], expected)
    plain = naive_gradient(exact, rows, cfg.change(importance_cap=0.0))
    assert max((a - b).abs().max() for a, b in zip(plain, expected)) > 1e-4


def test_those_are_of_the_policy_before_the_first_update(mini, cfg):
    """Asked for where a rollout is used more than once, and of all rows before any is used."""
    cfg = cfg.change(n_minibatches=2, importance_cap=2.0, steps=2)
    groups = rollout(mini, draw_problems(cfg, 0), cfg, 1, VARIED)
    batches = minibatches(groups, cfg, 1, mini, None)
    rows = [row for batch in batches for row in batch]
    assert len(batches) == 2 and len(rows) == 12
    for row in rows:
        ids = torch.tensor([[*row.prompt_ids, *row.answer_ids]])
        with torch.no_grad():
            logps = token_logps(mini.model, ids)[0, len(row.prompt_ids) - 1 :]
        torch.testing.assert_close(logps, torch.tensor(row.trainer_logps), atol=2e-5, rtol=0)
        assert row.trainer_logps is not row.logps
    once = minibatches(groups, cfg.change(n_minibatches=1), 1, mini, None)[0]
    assert all(row.trainer_logps is None for row in once), "one update sees them anyway"


@pytest.mark.parametrize("form", OBJECTIVES)
def test_the_kl_penalty_is_cut_up_rightly_too(exact, rows, form):
    """With beta every row counts, also those without an advantage."""
    reference = copy.deepcopy(exact.model)
    with torch.no_grad():
        for p in reference.parameters():
            p.mul_(1.05)
    cfg = SETTINGS.change(objective=form, beta=0.3, micro_batch_tokens=40)
    found, figures = gradient(exact, rows, cfg, Reference(reference))
    assert figures["kl"] > 1e-4
    assert_same(found, naive_gradient(exact, rows, cfg, reference))


def test_dropping_rows_without_advantage_changes_nothing(exact, rows):
    """They leave the forward pass but not the divisor."""
    tiny_kl_penalty = SETTINGS.change(beta=1e-30)  # keeps every row in, weighs nothing
    kept = gradient(exact, rows, tiny_kl_penalty, reference=Reference(exact.model))[0]
    dropped = gradient(exact, rows)[0]
    assert_same(dropped, kept)
    fewer = gradient(exact, [row for row in rows if row.advantage])[0]
    assert max((a - b).abs().max() for a, b in zip(fewer, dropped)) > 1e-4


def test_the_order_of_rows_changes_nothing(exact, rows):
    expected = gradient(exact, rows)[0]
    for seed in range(3):
        shuffled = random.Random(seed).sample(rows, len(rows))
        assert_same(gradient(exact, shuffled, SETTINGS.change(micro_batch_tokens=50))[0], expected)


def test_nothing_to_learn_moves_nothing(exact, rows):
    """Adam's momentum would move the weights for no reason."""
    flat = [Row(r.prompt_ids, r.answer_ids, r.logps, 0.0) for r in rows]
    optimizer = RecordingOptimizer(exact.model)
    figures = update(exact, flat, optimizer, SETTINGS, step=1)
    assert optimizer.gradient is None
    assert figures["loss"] == figures["grad_norm"] == figures["sampler_gap"] == 0.0


def test_long_gradients_are_scaled_and_the_learning_rate_warms_up(exact, rows):
    free, figures = gradient(exact, rows)
    limit = figures["grad_norm"] / 4
    optimizer = RecordingOptimizer(exact.model)
    cfg = SETTINGS.change(max_grad_norm=limit, learning_rate=0.1, warmup_steps=10)
    update(exact, rows, optimizer, cfg, step=3)
    norm = torch.stack([g.norm() for g in optimizer.gradient]).norm().item()
    assert norm == pytest.approx(limit, rel=1e-5)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.03)
    update(exact, rows, optimizer, cfg, step=30)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)


@pytest.mark.parametrize("pad_is_stop", [False, True])
def test_masks_come_from_lengths_not_from_token_ids(pad_is_stop):
    """The stop token is trained even where it is also the padding."""
    stop, pad = 1, 1 if pad_is_stop else 0
    made = [Row([5, 6], [7, 8, stop], [-1.0, -2.0, -3.0], 0.5), Row([5], [stop], [-4.0], -0.5)]
    batch = to_batch(made, pad)
    assert batch.token_ids.tolist() == [[5, 6, 7, 8, stop], [5, stop, pad, pad, pad]]
    assert batch.response_mask.tolist() == [[False, True, True, True], [True, False, False, False]]
    assert batch.logp_old.tolist() == [[0.0, -1.0, -2.0, -3.0], [-4.0, 0.0, 0.0, 0.0]]
    assert batch.advantages.tolist() == [[0.0, 0.5, 0.5, 0.5], [-0.5, 0.0, 0.0, 0.0]]


def test_the_padding_id_does_not_matter(exact, rows, monkeypatch):
    with_pad = gradient(exact, rows)[0]
    monkeypatch.setattr(Policy, "pad_id", property(lambda policy: policy.stop_id))
    assert_same(gradient(exact, rows)[0], with_pad)


def test_the_stop_token_is_trained(exact):
    """If only it is rewarded, its probability rises; else no answer would ever learn to end."""
    prompt, stop = [10, 11, 12], exact.stop_id
    ids = torch.tensor([[*prompt, stop]])
    before = token_logps(exact.model, ids)[0, -1].item()
    row = Row(prompt, [stop], [before], 1.0)
    optimizer = torch.optim.SGD(exact.model.parameters(), lr=1e-9)
    update(exact, [row], optimizer, SETTINGS.change(learning_rate=1e-2, warmup_steps=0), step=1)
    assert token_logps(exact.model, ids)[0, -1].item() > before + 1e-4


def test_a_rewarded_answer_becomes_likelier_and_a_punished_one_less(exact, rows):
    optimizer = torch.optim.SGD(exact.model.parameters(), lr=1e-9)
    for sign in (1.0, -1.0):
        row = Row(rows[1].prompt_ids, rows[1].answer_ids, rows[1].logps, sign)
        ids = torch.tensor([[*row.prompt_ids, *row.answer_ids]])
        first = len(row.prompt_ids) - 1
        before = token_logps(exact.model, ids)[0, first:].sum().item()
        cfg = SETTINGS.change(learning_rate=1e-3, clip_epsilon=10.0, warmup_steps=0)
        update(exact, [row], optimizer, cfg, step=1)
        after = token_logps(exact.model, ids)[0, first:].sum().item()
        assert (after - before) * sign > 0


def test_chunks_hold_every_row_once_and_keep_to_the_budget():
    rng = random.Random(1)
    for _ in range(200):
        lengths = [rng.randint(1, 30) for _ in range(rng.randint(0, 20))]
        budget = rng.randint(1, 100)
        chunks = token_budget_chunks(lengths, budget)
        assert sorted(i for chunk in chunks for i in chunk) == list(range(len(lengths)))
        for chunk in chunks:
            assert len(chunk) == 1 or len(chunk) * max(lengths[i] for i in chunk) <= budget


def test_advantages_are_taken_within_groups_before_the_shuffle(exact):
    problem = Problem("p", "countdown", "1-2-3", "en", "q", {})
    groups = [
        Group(
            problem,
            (i,),
            tuple(Completion((10 * i + j,), (0.0,), "", False) for j in range(4)),
            rewards=rewards,
        )
        for i, rewards in enumerate([(1, 0, 0, 0), (9, 9, 9, 7)])
    ]
    wanted = {
        10 * i + j: a
        for i, row in enumerate([(0.75, -0.25, -0.25, -0.25), (0.5, 0.5, 0.5, -1.5)])
        for j, a in enumerate(row)
    }
    cfg = SETTINGS.change(
        n_problems=2, group_size=4, n_minibatches=2, inner_epochs=3, steps=6, advantage_scale="none"
    )
    batches = minibatches(groups, cfg, step=1)
    assert [len(batch) for batch in batches] == [4] * 6
    for epoch in range(3):
        seen = {r.answer_ids[0]: r.advantage for r in batches[2 * epoch] + batches[2 * epoch + 1]}
        assert seen == wanted
    assert len({tuple(r.answer_ids[0] for r in batches[2 * e]) for e in range(3)}) > 1
    assert batches == minibatches(groups, cfg, step=1) != minibatches(groups, cfg, step=2)
    plain = minibatches(groups, cfg.change(n_minibatches=1, inner_epochs=1), step=1)
    assert [row.answer_ids[0] for row in plain[0]] == list(wanted)


def test_the_reference_becomes_the_policy_when_it_should(cfg):
    """The divergence starts at exactly 0, grows, and is 0 again after each replacement."""
    settings = cfg.change(beta=0.01, reference_every=2)
    divergence = [log.kl for log in train(settings, rewards=VARIED, progress=False).logs]
    assert [kl == 0.0 for kl in divergence] == [True, False] * 3
    never = settings.change(reference_every=1000, run_dir=cfg.run_dir + "-never")
    divergence = [log.kl for log in train(never, rewards=VARIED, progress=False).logs]
    assert [kl == 0.0 for kl in divergence] == [True] + [False] * 5


def test_to_rows_refuses_what_does_not_fit():
    group = Group(None, (1,), (Completion((1,), (0.0,), "", False),) * 2)
    with pytest.raises(ValueError):
        to_rows([group], torch.zeros(1, 3))
    assert pad_right([[1], [2, 3]], 9, torch.long).tolist() == [[1, 9], [2, 3]]


@pytest.mark.parametrize("budget", [1, 30, 64, 10**6])
def test_supervised_gradients_do_not_depend_on_the_budget(exact, budget, monkeypatch):
    """One mean over all tokens of all documents, however they are cut; the stop token included."""
    rng, model = random.Random(2), exact.model
    documents = [
        [*(rng.randrange(3, 400) for _ in range(rng.randint(1, 15))), exact.stop_id]
        for _ in range(9)
    ]
    model.zero_grad()
    total = sum(token_logps(model, torch.tensor([d])).sum() for d in documents)
    expected = -total / sum(len(d) - 1 for d in documents)
    expected.backward()
    wanted = [p.grad.clone() for p in model.parameters()]
    rows, cfg = [Row(d[:1], d[1:]) for d in documents], SftConfig(micro_batch_tokens=budget)
    for pad_id in (exact.pad_id, exact.stop_id):
        monkeypatch.setattr(Policy, "pad_id", pad_id)
        model.zero_grad()
        loss = sft_backward(exact, rows, cfg)["loss"]
        assert loss == pytest.approx(expected.item(), rel=1e-12)
        assert_same([p.grad for p in model.parameters()], wanted)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_advantages_that_are_not_finite_are_refused_before_they_reach_a_weight(value):
    """As of a function that takes the plain mean of rewards of which one is NaN."""
    answers = (Completion((1, 2), (0.0, 0.0), "a", False), Completion((1,), (0.0,), "b", False))
    groups = [Group(Problem("p", "f", "c", "en", "q", {}), (1,), answers)]
    for advantages in (torch.tensor([[0.0, value]]), [[[0.0, value], [0.0]]]):
        with pytest.raises(UserError, match=f"{value}.*finite.*NaN"):
            to_rows(groups, advantages)
