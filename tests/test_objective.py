"""The objective against hand values and an independent one in plain Python.

A wrong sign, a maximum for the minimum or another normaliser would still train, only worse.
"""

import math
import random

import pytest
import torch

from r1lite import group_advantages, grpo_terms, k3
from r1lite.learn.objective import OBJECTIVES

PRINTED = ("deepseekmath", "r1-printed")


def double(*rows):
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize(
    ("rewards", "best", "worst"),
    [
        ([1, 1, 0, 0, 0, 0, 0, 0], 1.731651, -0.577217),
        ([1, 0, 0, 0], 1.731651, -0.577217),
        ([1, 1, 1, 1, 0, 0, 0, 0], 0.9998, -0.9998),
        ([1, 0], 0.9998, -0.9998),
    ],
)
def test_advantages_by_hand_with_the_population_spread(rewards, best, worst):
    values = group_advantages(double(rewards))[0]
    assert values[0].item() == pytest.approx(best, abs=2e-6)
    assert values[-1].item() == pytest.approx(worst, abs=2e-6)


def test_advantages_without_the_spread():
    values = group_advantages(
        double([1, 1, 0, 0, 0, 0, 0, 0], [4, 0, 0, 0, 0, 0, 0, 0]), scale="none"
    )
    assert values[0].tolist() == [0.75] * 2 + [-0.25] * 6
    assert values[1].tolist() == [3.5] + [-0.5] * 7


def test_a_group_is_compared_with_itself_alone():
    both = group_advantages(double([1, 0, 0, 1], [9, 7, 7, 7]))
    assert torch.equal(both[1], group_advantages(double([9, 7, 7, 7]))[0])
    assert both.sum(-1).abs().max() < 1e-12


@pytest.mark.parametrize("scale", ["std", "none"])
@pytest.mark.parametrize("value", [0.0, 1.0, 0.5, 1.2])
def test_equal_rewards_teach_exactly_nothing(scale, value):
    assert torch.equal(group_advantages(double([value] * 4), scale=scale), double([0.0] * 4))
    in_float32 = group_advantages(torch.full((1, 8), value), scale=scale)
    assert torch.equal(in_float32, torch.zeros(1, 8))


NAN = math.nan


def before(rewards, scale, eps, sample_std):
    """What advantages were before rewards could be unknown: recorded runs rest on its last bit."""
    shifted = rewards - rewards[..., :1]
    centred = shifted - shifted.mean(-1, keepdim=True)
    if scale == "none":
        return centred
    if scale == "batch":
        return centred / (rewards.std(correction=int(sample_std)) + eps)
    mean_square = centred.square().sum(-1, keepdim=True) / (rewards.shape[-1] - sample_std)
    return centred / (mean_square.sqrt() + eps)


@pytest.mark.parametrize("scale", ["std", "batch", "none"])
@pytest.mark.parametrize("sample_std", [False, True])
def test_where_all_rewards_are_known_nothing_changes_to_the_last_bit(scale, sample_std):
    generator = torch.Generator().manual_seed(0)
    for n_groups, size in [(1, 2), (3, 3), (16, 8), (7, 13), (5, 64), (32, 16), (2, 1000)]:
        drawn = torch.randn(n_groups, size, generator=generator)
        for rewards in (drawn, drawn.round(), (drawn > 0).float() * 1.2, drawn.double() * 1e5):
            found = group_advantages(rewards, scale=scale, sample_std=sample_std)
            assert torch.equal(found, before(rewards, scale, 1e-4, sample_std))


@pytest.mark.parametrize("scale", ["std", "none", "batch"])
@pytest.mark.parametrize("sample_std", [False, True])
def test_unknown_rewards_get_nothing_and_move_nobody(scale, sample_std):
    """As if the answers had never been written; also the first, and a group of one, or of none."""
    rewards = double([NAN, -1, 0, 3], [2, NAN, NAN, 1], [NAN, 5, NAN, NAN], [NAN] * 4, [1, 0, 0, 2])
    found = group_advantages(rewards, scale=scale, sample_std=sample_std)
    assert (found[rewards.isnan()] == 0).all() and found.isfinite().all()
    assert found[2].tolist() == [0.0] * 4, "with nobody to compare with"
    spread = rewards[~rewards.isnan()].std(correction=int(sample_std)) + 1e-4
    for row, values in zip(rewards, found):
        known = row[~row.isnan()]
        if len(known) > 1:
            alone = group_advantages(known[None], scale="none" if scale == "batch" else scale,
                                     sample_std=sample_std)[0]  # fmt: skip
            wanted = alone / spread if scale == "batch" else alone
            assert values[~row.isnan()].tolist() == pytest.approx(wanted.tolist(), abs=1e-12)
    nothing = torch.full((2, 3), NAN)
    assert group_advantages(nothing, scale=scale, sample_std=sample_std).tolist() == [[0.0] * 3] * 2


def test_an_answer_that_could_not_be_checked_is_not_better_than_a_wrong_one():
    assert group_advantages(double([-1, NAN])).tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize(
    ("advantage", "epsilon", "ratio", "objective", "gradient_flows"),
    [
        (-1, 0.2, 0.5, -0.8, False),
        (-1, 0.2, 1.5, -1.5, True),
        (-1, 0.2, 1.1, -1.1, True),
        (1, 0.2, 0.5, 0.5, True),
        (1, 0.2, 1.5, 1.2, False),
        (1, 10, 10.9, 10.9, True),
        (1, 10, 11.1, 11.0, False),
        (1, 10, 0.001, 0.001, True),
        (-1, 10, 11.1, -11.1, True),
        (-1, 10, 500.0, -500.0, True),
        (-1, 10, 0.001, -0.001, True),
    ],
)
@pytest.mark.parametrize("form", ["deepseekmath", "r1-printed", "gspo"])
def test_the_clip_is_a_minimum_for_both_signs(
    form, advantage, epsilon, ratio, objective, gradient_flows
):
    """With epsilon 10 only a ratio above 11 with a positive advantage is cut."""
    old = double([-3.0])
    new = (old + math.log(ratio)).requires_grad_()
    terms = grpo_terms(
        new, old, double(advantage), torch.ones(1, 1, dtype=torch.bool),
        clip_epsilon=epsilon, objective=form,
    )  # fmt: skip
    terms.per_answer.sum().backward()
    assert -terms.per_answer.item() == pytest.approx(objective, rel=1e-9)
    assert (new.grad.abs().item() > 0) == gradient_flows
    assert terms.n_clipped.item() == (0 if gradient_flows else 1)
    if gradient_flows:  # d(-r A)/d(log pi) = -r A
        assert new.grad.item() == pytest.approx(-ratio * advantage, rel=1e-9)


POLICY, REFERENCE = (0.7, 0.3), (0.5, 0.5)


def test_k3_averages_to_the_enumerated_kl():
    new, ref = double(POLICY).log(), double(REFERENCE).log()
    kl = sum(p * math.log(p / q) for p, q in zip(POLICY, REFERENCE))
    assert kl == pytest.approx(0.082283, abs=5e-7)
    values = k3(new, ref)[0]
    assert sum(p * v for p, v in zip(POLICY, values.tolist())) == pytest.approx(kl, abs=1e-12)
    assert values.min() >= 0
    assert values.tolist() == pytest.approx(
        [q / p - math.log(q / p) - 1 for p, q in zip(POLICY, REFERENCE)]
    )


def test_k3_gradient_by_autograd_is_the_analytic_one():
    """d k3 / d log pi = 1 - ref / pi, and through a softmax its expectation by the chain rule."""
    new = double(POLICY).log().requires_grad_()
    k3(new, double(REFERENCE).log()).sum().backward()
    assert new.grad[0].tolist() == pytest.approx([1 - q / p for p, q in zip(POLICY, REFERENCE)])
    logits = double(POLICY).log()[0].requires_grad_()
    logps = torch.log_softmax(logits, -1)
    (logps.exp().detach() * k3(logps, double(REFERENCE).log()[0])).sum().backward()
    inner = [p * (1 - q / p) for p, q in zip(POLICY, REFERENCE)]  # weight times d k3 / d log pi
    analytic = [inner[i] - POLICY[i] * sum(inner) for i in range(2)]
    assert logits.grad.tolist() == pytest.approx(analytic, abs=1e-12)


def test_k3_is_exact_where_policy_and_reference_nearly_agree():
    new = torch.tensor([-2.0], dtype=torch.float64)
    assert k3(new, new).item() == 0.0
    assert k3(new, new + 1e-6).item() == pytest.approx(5e-13, rel=1e-3)


def plain_python(new, old, ref, advantages, lengths, starts, epsilon, beta, form):
    """GRPO's loss per answer read off the two papers; floats and loops, no tensors."""
    losses = []
    for row, (start, length) in enumerate(zip(starts, lengths)):
        tokens = range(start, start + length)
        a = advantages[row]

        def gain(r, a=a):
            return min(r * a, max(1 - epsilon, min(1 + epsilon, r)) * a)

        def divergence(log_ref, log_new):
            return math.exp(log_ref - log_new) - (log_ref - log_new) - 1

        if form == "deepseekmath":  # (1/|o|) sum_t [ min(...) - beta k3 ]
            total = 0.0
            for t in tokens:
                total += gain(math.exp(new[row][t] - old[row][t]))
                total -= beta * divergence(ref[row][t], new[row][t])
            losses.append(-total / length)
        else:  # pi(o|q) is the product of its tokens; no 1/|o|
            whole_new = sum(new[row][t] for t in tokens)
            whole_old = sum(old[row][t] for t in tokens)
            whole_ref = sum(ref[row][t] for t in tokens)
            losses.append(
                beta * divergence(whole_ref, whole_new) - gain(math.exp(whole_new - whole_old))
            )
    return losses


@pytest.mark.parametrize("form", PRINTED)
@pytest.mark.parametrize("seed", range(6))
def test_both_printed_forms_agree_with_plain_python(form, seed):
    """Ragged rows, the clip binding on some; value and gradient (by differences) to 1e-10, 1e-6."""
    rng = random.Random(seed)
    n, width, epsilon, beta = 7, 9, rng.choice([0.1, 0.2, 10.0]), rng.choice([0.001, 0.3])
    starts = [rng.randint(0, 3) for _ in range(n)]
    lengths = [rng.randint(1, width - s) for s in starts]
    old, ref, new = (
        [[rng.uniform(-4, -0.1) for _ in range(width)] for _ in range(n)] for _ in range(3)
    )
    new = [[o + rng.gauss(0, 0.3) for o in row] for row in old]
    ref = [[o + rng.gauss(0, 0.3) for o in row] for row in old]
    advantages = [rng.gauss(0, 1) for _ in range(n)]
    mask = torch.zeros(n, width, dtype=torch.bool)
    for row, (start, length) in enumerate(zip(starts, lengths)):
        mask[row, start : start + length] = True
    new_tensor = double(*new).requires_grad_()
    terms = grpo_terms(
        new_tensor, double(*old), torch.tensor(advantages, dtype=torch.float64), mask,
        clip_epsilon=epsilon, beta=beta, logp_ref=double(*ref), objective=form,
    )  # fmt: skip
    arguments = (old, ref, advantages, lengths, starts, epsilon, beta, form)
    expected = plain_python(new, *arguments)
    assert terms.per_answer.tolist() == pytest.approx(expected, abs=1e-10, rel=1e-10)
    terms.per_answer.sum().backward()
    assert torch.equal(new_tensor.grad[~mask], torch.zeros((~mask).sum(), dtype=torch.float64))
    for row in range(n):
        t, step = starts[row], 1e-6
        up, down = ([[*r] for r in new] for _ in range(2))
        up[row][t] += step
        down[row][t] -= step
        slope = (plain_python(up, *arguments)[row] - plain_python(down, *arguments)[row]) / 2 / step
        assert new_tensor.grad[row, t].item() == pytest.approx(slope, abs=1e-6, rel=1e-5)


def test_the_two_forms_differ_in_ratio_and_length():
    """Two tokens, ratios 2 and 3: per token (2 + 3) / 2, as printed in R1 2 * 3."""
    old = double([-2.0, -2.0])
    new = old + double([math.log(2), math.log(3)])
    mask = torch.ones(1, 2, dtype=torch.bool)
    values = [
        -grpo_terms(new, old, double(1), mask, clip_epsilon=10, objective=f).per_answer.item()
        for f in PRINTED
    ]
    assert values == pytest.approx([2.5, 6.0])


@pytest.mark.parametrize("form", PRINTED)
@pytest.mark.parametrize("epsilon", [0.2, 10.0])
def test_at_step_0_the_loss_is_0_and_the_gradient_is_not(form, epsilon):
    rewards = double([1, 0, 0, 1, 1, 0])
    advantages = group_advantages(rewards)[0]
    lengths = [2, 5, 1, 4, 3, 5]
    mask = torch.tensor([[t < length for t in range(5)] for length in lengths])
    old = -torch.rand(6, 5, dtype=torch.float64) - 0.1
    new = old.clone().requires_grad_()
    terms = grpo_terms(
        new,
        old,
        advantages,
        mask,
        clip_epsilon=epsilon,
        beta=0.1,
        logp_ref=old.clone(),
        objective=form,
    )
    assert terms.per_answer.sum().item() == pytest.approx(0.0, abs=1e-12)
    assert torch.equal(terms.kl, torch.zeros(6, dtype=torch.float64))
    assert terms.n_clipped.item() == 0
    terms.per_answer.sum().backward()
    for row, length in enumerate(lengths):
        share = 1 if form == "r1-printed" else length
        wanted = [-advantages[row].item() / share * (t < length) for t in range(5)]
        assert new.grad[row].tolist() == pytest.approx(wanted)


@pytest.mark.parametrize("form", OBJECTIVES)
def test_rows_without_a_token_and_wild_padding_stay_finite(form):
    """exp of a padding value must not reach the sum: inf times 0 is nan."""
    mask = torch.tensor([[False, False, False], [True, True, False]])
    new = double([-9e3, 0.0, -5.0], [-1.0, -2.0, -9e3]).requires_grad_()
    old = double([0.0, -9e3, -5.0], [-1.0, -2.5, 0.0])
    ref = double([0.0, -9e3, 9e3], [-1.5, -2.0, 0.0])
    terms = grpo_terms(
        new, old, torch.tensor([1.0, -1.0]).double(), mask,
        clip_epsilon=0.2, beta=0.5, logp_ref=ref, objective=form,
    )  # fmt: skip
    assert torch.isfinite(terms.per_answer).all() and torch.isfinite(terms.kl).all()
    terms.per_answer.sum().backward()
    assert torch.isfinite(new.grad).all()
    assert not new.grad[~mask].any()
    assert new.grad[1, :2].abs().min() > 0


def test_an_unknown_form_and_a_kl_penalty_without_reference_are_errors():
    one, mask = double([-1.0]), torch.ones(1, 1, dtype=torch.bool)
    with pytest.raises(ValueError, match="ppo.*deepseekmath"):
        grpo_terms(one, one, double(1), mask, clip_epsilon=10, objective="ppo")
    with pytest.raises(ValueError, match="logp_ref"):
        grpo_terms(one, one, double(1), mask, clip_epsilon=10, beta=0.1)


# truncated importance sampling: the sampler is another program than the trainer


def importance(off, cap, objective="deepseekmath", advantage=1.0, new=None):
    """Gain and gradient of two answers of three tokens; off: log trainer / sampler a token."""
    new = torch.zeros(2, 3, dtype=torch.float64) - 1.0 if new is None else new
    new = new.clone().requires_grad_()
    old = new.detach()
    mask = torch.tensor([[True, True, True], [True, True, False]])
    sampler = None if off is None else old - torch.tensor(off, dtype=torch.float64)
    terms = grpo_terms(
        new, old, double([advantage, advantage])[0], mask, clip_epsilon=0.2, objective=objective,
        logp_sampler=sampler, importance_cap=cap,
    )  # fmt: skip
    terms.per_answer.sum().backward()
    return terms.per_answer.detach(), new.grad


@pytest.mark.parametrize("form", OBJECTIVES)
def test_an_exact_sampler_is_weighed_with_one(form):
    zero = [[0.0] * 3] * 2
    for found, plain in zip(importance(zero, 1.0, form), importance(None, None, form)):
        assert torch.equal(found, plain)


@pytest.mark.parametrize(
    ("form", "first", "second"),
    [  # weights of the tokens of both answers, by hand; the last token of the second is no token
        ("deepseekmath", [0.5, 2.0, 3.0], [1.0, 3.0, 0.0]),
        ("cispo", [0.5, 2.0, 3.0], [1.0, 3.0, 0.0]),
        ("r1-printed", [3.0] * 3, [3.0, 3.0, 0.0]),  # 0.5 * 2 * 8 = 8 and 1 * 8, both capped
        ("gspo", [2.0] * 3, [8**0.5, 8**0.5, 0.0]),  # 8 ** (1 / 3)
    ],
)
def test_weights_by_hand(form, first, second):
    off = [[math.log(0.5), math.log(2), math.log(8)], [0.0, math.log(8), 99.0]]
    plain, weighed = importance(None, None, form)[1], importance(off, 3.0, form)[1]
    torch.testing.assert_close(weighed, plain * double(first, second), rtol=1e-12, atol=0)


def test_the_weight_itself_has_no_gradient():
    """Else the loss would also push the trainer away from its own engine."""
    off = [[0.3, -0.3, 0.0], [0.1, 0.0, 0.0]]
    plain, weighed = importance(None, None)[1], importance(off, 9.0)[1]
    torch.testing.assert_close(weighed, plain * double(*off).exp(), rtol=1e-12, atol=0)


def test_without_a_cap_it_is_unbiased_and_with_one_it_is_not():
    """All tokens of a vocabulary of four, each with the probability that the engine gives it."""
    logits = double([0.3, -1.0, 0.8, 0.1])[0]
    engine = torch.log_softmax(logits + double([0.5, -1.5, 0.0, 0.2])[0], 0)
    rewards = double([1.0, 3.0, -2.0, 0.5])[0]

    def expected(probabilities, sampler, cap):
        leaf = logits.clone().requires_grad_()
        new = torch.log_softmax(leaf, 0)[:, None]
        terms = grpo_terms(
            new, new.detach(), rewards, torch.ones(4, 1, dtype=torch.bool), clip_epsilon=10.0,
            logp_sampler=sampler, importance_cap=cap,
        )  # fmt: skip
        (terms.per_answer * probabilities).sum().backward()
        return leaf.grad

    on_policy = expected(torch.log_softmax(logits, 0).exp(), None, None)
    asked = engine.exp(), engine[:, None]
    torch.testing.assert_close(expected(*asked, 1e9), on_policy, rtol=1e-12, atol=1e-15)
    assert (expected(*asked, 1.5) - on_policy).abs().max() > 1e-2
    assert (expected(asked[0], None, None) - on_policy).abs().max() > 1e-2, "what TIS is for"
