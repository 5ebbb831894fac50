"""What later papers changed in the objective, one switch at a time; TRL's own code is the oracle of
tests/deep/test_trl_objective.py, hand values and enumeration are those of this file."""

import math

import pytest
import torch

from r1lite.config import RunConfig, preset
from r1lite.lab.objectives import OBJECTIVES
from r1lite.learn.objective import group_advantages, grpo_terms, kl_estimate
from r1lite.policy.adapters import Reference
from r1lite.records import Completion, Group, Problem, UserError
from r1lite.rewards import overlong_penalty


def double(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def one_token(ratio: float, advantage: float, **settings):
    """(gain, gradient of the loss in log pi, clipped) of a one-token answer with this ratio."""
    old = double([-3.0])
    new = (old + math.log(ratio)).requires_grad_()
    mask = torch.ones(1, 1, dtype=torch.bool)
    terms = grpo_terms(new, old, double(advantage), mask, **{"clip_epsilon": 0.2} | settings)
    terms.per_answer.sum().backward()
    return -terms.per_answer.item(), new.grad.item(), terms.n_clipped.item()


def test_clip_higher_moves_the_upper_end_alone():
    assert one_token(1.25, 1, clip_epsilon_high=0.28)[0] == pytest.approx(1.25)
    assert one_token(1.5, 1, clip_epsilon_high=0.28) == (pytest.approx(1.28), 0.0, 1.0)
    assert one_token(0.5, -1, clip_epsilon_high=0.28) == (pytest.approx(-0.8), 0.0, 1.0)


def test_dual_clip_ends_what_a_minimum_leaves_open():
    """A negative advantage and a huge ratio: without it the push has no end."""
    assert one_token(9.0, -1) == (pytest.approx(-9.0), pytest.approx(9.0), 0.0)
    assert one_token(9.0, -1, dual_clip=3.0) == (pytest.approx(-3.0), 0.0, 1.0)
    assert one_token(2.0, -1, dual_clip=3.0) == (pytest.approx(-2.0), pytest.approx(2.0), 0.0)
    assert one_token(9.0, 1, dual_clip=3.0) == (pytest.approx(1.2), 0.0, 1.0)


def test_cispo_cuts_the_weight_and_goes_on_teaching():
    gain, slope, clipped = one_token(9.0, 1, objective="cispo", clip_epsilon_high=2.0)
    assert (slope, clipped) == (pytest.approx(-3.0), 1.0)
    assert gain == pytest.approx(3 * (-3 + math.log(9)))
    assert one_token(1.5, -1, objective="cispo", clip_epsilon_high=2.0)[1] == pytest.approx(1.5)


def test_gspo_takes_the_geometric_mean():
    old, mask = double([-2.0, -2.0, -5.0]), torch.tensor([[True, True, False]])
    new = (old + double([math.log(2), math.log(8), 99.0])).requires_grad_()
    terms = grpo_terms(new, old, double(1), mask, clip_epsilon=10, objective="gspo")
    terms.per_answer.sum().backward()
    assert -terms.per_answer.item() == pytest.approx(4.0)
    assert new.grad[0].tolist() == pytest.approx([-2.0, -2.0, 0.0])  # 4 / 2 tokens each
    cut = grpo_terms(new, old, double(1), mask, clip_epsilon=0.2, objective="gspo")
    assert cut.n_clipped.item() == 2, "tokens, not answers"


def test_the_four_ways_to_divide_by_hand():
    """Two answers of 2 and 4 tokens, loss 1 a token in the first and 0 in the second."""
    mask = torch.tensor([[True] * 2 + [False] * 2, [True] * 4])
    old = torch.zeros(2, 4, dtype=torch.float64)
    advantages = torch.tensor([-1.0, 0.0], dtype=torch.float64)

    def loss(divide_by):
        terms = grpo_terms(old, old, advantages, mask, clip_epsilon=10, divide_by=divide_by)
        return terms.per_answer.sum().item() / 2

    assert loss(None) == pytest.approx(0.5)  # GRPO
    assert loss(6 / 2) == pytest.approx(2 / 6)  # BNPO and DAPO: the batch's mean length
    assert loss(8.0) == pytest.approx(2 / 16)  # Dr. GRPO: the limit


POLICY, REFERENCE = (0.7, 0.3), (0.5, 0.5)


def expected(estimator: str, weigh: bool) -> tuple[float, list[float]]:
    """Mean over the policy's samples of estimate and gradient (in the logits), enumerated."""
    logits = double(POLICY).log()[0].requires_grad_()
    value, slope = 0.0, torch.zeros(2, dtype=torch.float64)
    for token, p in enumerate(POLICY):
        new = torch.log_softmax(logits, -1)[token].view(1, 1)
        ref = double([math.log(REFERENCE[token])])
        terms = grpo_terms(
            new, new.detach(), double(0), torch.ones(1, 1, dtype=torch.bool),
            clip_epsilon=10, beta=1.0, logp_ref=ref, estimator=estimator,
            kl_importance_weighted=weigh,
        )  # fmt: skip
        value += p * terms.kl.item()
        slope += p * torch.autograd.grad(terms.per_answer.sum(), logits)[0]
    return value, slope.tolist()


def true_kl(of, to) -> tuple[float, list[float]]:
    """KL and its gradient in the logits of POLICY, by autograd over the whole distribution."""
    logits = double(POLICY).log()[0].requires_grad_()
    new = torch.log_softmax(logits, -1)
    parts = {"policy": new, "reference": double(REFERENCE).log()[0]}
    kl = (parts[of].exp() * (parts[of] - parts[to])).sum()
    return kl.item(), torch.autograd.grad(kl, logits)[0].tolist()


@pytest.mark.parametrize("weigh", [False, True])
@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_value_and_gradient_of_the_estimators_are_the_enumerated_ones(estimator, weigh):
    kl, slope = true_kl("policy", "reference")
    assert kl == pytest.approx(0.082283, abs=5e-7)
    value, found = expected(estimator, weigh)
    log_ratios = [math.log(p / q) for p, q in zip(POLICY, REFERENCE)]
    mean_square = sum(p * x * x / 2 for p, x in zip(POLICY, log_ratios))
    assert value == pytest.approx(mean_square if estimator == "k2" else kl)
    if weigh and estimator == "k2":
        # the ratio's gradient comes on top of one that was right already
        assert found != pytest.approx(slope, rel=0.05)
    elif weigh or estimator == "k2":
        assert found == pytest.approx(slope)
    elif estimator == "k1":
        assert found == pytest.approx([0.0, 0.0], abs=1e-12), "a KL penalty that does not pull"
    else:
        assert found == pytest.approx(true_kl("reference", "policy")[1]), "of the other KL"
        assert found != pytest.approx(slope, rel=0.05)


def test_the_kl_penalty_points_away_from_drift():
    """Estimators written for samples of the reference would pay for drift: k1 must be positive."""
    new, ref = double([math.log(0.7)]), double([math.log(0.5)])
    assert kl_estimate(new, ref, "k1").item() > 0


def test_batch_scale_keeps_the_group_mean_and_shares_the_spread():
    rewards = double([1, 0, 0, 0], [1, 1, 1, 0])
    values = group_advantages(rewards, scale="batch")
    spread = rewards.std(correction=0).item()
    assert values[0].tolist() == pytest.approx(
        [0.75 / (spread + 1e-4)] + [-0.25 / (spread + 1e-4)] * 3
    )
    assert values.sum(-1).abs().max() < 1e-12
    one = group_advantages(rewards, scale="batch", sample_std=True)
    assert (values / one).unique().numel() >= 1
    assert one[0, 0].item() == pytest.approx(0.75 / (rewards.std(correction=1).item() + 1e-4))


@pytest.mark.parametrize(
    ("n", "wanted"),
    [(0, 0), (1, 0), (80, 0), (81, -0.05), (85, -0.25), (90, -0.5), (100, -1)]
    + [(n, -1) for n in (101, 120, 1000, 10**6)],  # beyond the limit it costs no more
)
def test_overlong_penalty_by_hand(n, wanted):
    assert overlong_penalty(n, limit=100, buffer=20) == wanted


def group(rewards, lengths=None, truncated=None) -> Group:
    n = len(rewards)
    problem = Problem("p", "chat", "c", "en", "q", {})
    lengths, truncated = lengths or [3] * n, truncated or [False] * n
    rollouts = tuple(
        Completion(tuple(range(3, 3 + k)), (-1.0,) * k, "x", cut)
        for k, cut in zip(lengths, truncated)
    )
    return Group(problem, (5, 6), rollouts, tuple(map(float, rewards)))


def test_answers_that_were_cut_off_are_left_out_but_count_for_their_group():
    from conftest import minibatches

    groups = [group([1, 0, 0, 0], truncated=[False, True, False, False])]
    cfg = preset("tiny", n_problems=1, group_size=4, mask_truncated=True)
    (rows,) = minibatches(groups, cfg, step=1)
    (plain,) = minibatches(groups, cfg.change(mask_truncated=False), step=1)
    assert [row.advantage for row in rows] == [plain[i].advantage for i in (0, 2, 3)]


def test_nothing_left_to_train_on_is_no_nan(mini):
    from conftest import minibatches, update
    from test_batching import RecordingOptimizer

    cfg = preset("tiny", n_problems=1, group_size=4, mask_truncated=True)
    (rows,) = minibatches([group([1, 0, 0, 0], truncated=[True] * 4)], cfg, step=1)
    done = update(mini, rows, RecordingOptimizer(mini.model), cfg, step=1)
    assert rows == [] and done["loss"] == done["grad_norm"] == 0.0
    assert all(math.isfinite(value) for value in done.values())


def test_overlong_answers_lose_reward_in_a_rollout():
    from r1lite.learn.rollout import rewards_of
    from r1lite.rewards import score

    cfg = preset("tiny", group_size=2, max_new_tokens=10, overlong_buffer=4)
    pay = {name: lambda **c: [1.0, 1.0] for name in cfg.reward_weights}
    (scored,) = score([group([0, 0], lengths=[4, 8])], rewards_of(cfg, pay))
    assert scored.parts["overlong"] == (0.0, -0.5)
    assert scored.rewards == pytest.approx((1.2, 0.7))


def test_dynamic_sampling_draws_until_every_group_teaches(mini, monkeypatch):
    """Every second group has equal rewards: twice the problems are drawn, half are kept."""
    from r1lite.learn import rollout

    drawn = []

    def parts(policy, problems, *settings, **more):
        drawn.append([p.problem_id for p in problems])
        return [[group([0, 0]) for _ in problems]]

    def score(groups, *rewards):
        return [group([i % 2, 0]) for i in range(len(groups))]

    def gather(cfg):
        """The groups that are trained on, and all that were sampled."""
        every = []
        for problems in rollout.draws(cfg, 1, (), every):
            every += rollout.score_all(rollout.sample(mini, problems, cfg, 1), cfg)
        return rollout.chosen(every, cfg), every

    monkeypatch.setattr(rollout, "sample_parts", parts)
    monkeypatch.setattr(rollout, "score", score)
    cfg = preset("tiny", n_problems=4, group_size=2, dynamic_sampling=True)
    taught, every = gather(cfg)
    assert len(drawn) == 2 and len(every) == 8 and drawn[0] != drawn[1]
    assert [g.rewards for g in taught] == [(1.0, 0.0)] * 4
    drawn.clear()
    monkeypatch.setattr(rollout, "score", lambda groups, *a: groups)
    taught, every = gather(cfg)
    assert len(drawn) == rollout.ATTEMPTS and len(taught) == 4, "an end, whatever the rewards"
    drawn.clear()
    taught, every = gather(cfg.change(dynamic_sampling=False))
    assert len(drawn) == 1 and taught == every


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_is_a_setting_that_trains(name, cfg):
    from conftest import VARIED

    from r1lite.learn import train

    settings = {"max_new_tokens": 24, "steps": 1} | OBJECTIVES[name]
    if "overlong_buffer" in settings:
        settings["overlong_buffer"] = 8
    (log,) = train(cfg.change(**settings), rewards=VARIED, progress=False).logs
    assert math.isfinite(log.loss) and log.grad_norm > 0


def test_a_kl_penalty_in_the_reward_pulls_towards_the_reference(cfg, mini):
    """Two answers of equal reward: the one that the reference finds less likely is worth less."""
    import copy

    from conftest import minibatches, rollout

    from r1lite.learn.rollout import draw_problems
    from r1lite.learn.update import reference_kl

    cfg = cfg.change(beta=0.5, kl_placement="reward", kl_estimator="k1", n_problems=2, group_size=4)
    reference = copy.deepcopy(mini.model)
    with torch.no_grad():
        for p in reference.parameters():
            p.add_(0.02 * torch.randn_like(p))
    flat = {name: lambda completions, **c: [0.0] * len(completions) for name in cfg.reward_weights}
    groups = rollout(mini, draw_problems(cfg, 0), cfg, 1, flat)
    kl = reference_kl(groups, cfg, mini, Reference(reference))
    assert kl.shape == (2, 4) and kl.abs().max() > 1e-3
    (rows,) = minibatches(groups, cfg, 1, mini, Reference(reference))
    wanted = group_advantages(-0.5 * kl).flatten().tolist()
    assert [row.advantage for row in rows] == pytest.approx(wanted, abs=1e-4)
    same = reference_kl(groups, cfg, mini, Reference(mini.model))
    assert same.abs().max() < 1e-3, "no drift, no cost"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kl_placement": "both"}, "loss, reward"),
        ({"loss_aggregation": "none"}, "sequence_mean, token_mean, max_length"),
        ({"kl_estimator": "k4"}, "k1, k2, k3"),
        ({"dynamic_sampling": "yes"}, "True, False"),
        ({"overlong_buffer": 400}, "max_new_tokens=384"),
        ({"dual_clip": -1}, "0 to"),
        ({"steps": True}, "whole"),
    ],
)
def test_a_wrong_setting_is_named(changes, words):
    with pytest.raises(UserError, match=words):
        RunConfig().change(**changes)


def test_a_group_of_equal_rewards_moves_weights_by_the_kl_penalty_alone(mini):
    """It teaches nothing, and the KL penalty pulls on it; with beta 0 nothing moves."""
    import copy

    from conftest import minibatches, update
    from test_batching import RecordingOptimizer

    reference = copy.deepcopy(mini.model)
    with torch.no_grad():
        for p in reference.parameters():
            p.add_(0.02 * torch.randn_like(p))
    cfg = preset("tiny", n_problems=1, group_size=4)
    (rows,) = minibatches([group([1, 1, 1, 1])], cfg, step=1)
    still = update(mini, rows, RecordingOptimizer(mini.model), cfg, step=1)
    assert still["grad_norm"] == 0.0
    cfg = cfg.change(beta=0.1)
    pulled = update(
        mini, rows, RecordingOptimizer(mini.model), cfg, step=1, reference=Reference(reference)
    )
    assert pulled["grad_norm"] > 1e-6


@pytest.mark.parametrize("loss_aggregation", ["sequence_mean", "token_mean", "max_length"])
def test_answers_left_out_are_left_out_of_the_divisor_too(mini, loss_aggregation):
    """The loss of what remains is that of a batch that never held the others."""
    from conftest import minibatches, update
    from test_batching import RecordingOptimizer, assert_same

    cfg = preset(
        "tiny", n_problems=1, group_size=4, mask_truncated=True, loss_aggregation=loss_aggregation
    )
    cfg = cfg.change(max_new_tokens=32)
    groups = [group([1, 0, 0, 1], lengths=[3, 9, 4, 6], truncated=[False, True, False, False])]
    (rows,) = minibatches(groups, cfg, step=1)
    (every,) = minibatches(groups, cfg.change(mask_truncated=False), step=1)
    gradients = []
    for batch in (rows, [every[i] for i in (0, 2, 3)]):
        optimizer = RecordingOptimizer(mini.model)
        update(mini, batch, optimizer, cfg, step=1)
        gradients.append(optimizer.gradient)
    assert len(rows) == 3
    assert_same(*gradients)


def test_the_logged_length_counts_answers_that_are_not_trained_on():
    from r1lite.learn.rollout import rollout_metrics

    figures = rollout_metrics([group([1, 0], lengths=[2, 10], truncated=[False, True])])
    assert figures["length"] == 6 and figures["truncated"] == 0.5


def test_the_gradient_flows_through_checkpointed_layers(mini):
    from conftest import minibatches, update
    from test_batching import RecordingOptimizer

    cfg = preset("tiny", n_problems=1, group_size=4)
    (rows,) = minibatches([group([1, 0, 0, 1], lengths=[3, 9, 4, 6])], cfg, step=1)
    gradients = []
    for checkpointed in (False, True):
        if checkpointed:
            mini.model.gradient_checkpointing_enable({"use_reentrant": False})
            mini.model.train()
        optimizer = RecordingOptimizer(mini.model)
        assert update(mini, rows, optimizer, cfg, step=1)["grad_norm"] > 0
        gradients.append(optimizer.gradient)
    for a, b in zip(*gradients, strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_the_limit_is_doubled_from_the_update_after(cfg):
    late = cfg.change(extend_length_after=3, max_new_tokens=16)
    assert [late.at(step).max_new_tokens for step in (1, 3, 4, 9)] == [16, 16, 32, 32]
    assert cfg.at(99) is cfg
