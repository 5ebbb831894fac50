"""Sampling keyed by (seed, step, problem, answer), and log-probabilities that are the trainer's.

If batch size or dropped rows changed what is sampled, a resumed run would be another run; if
the sampler's log-probabilities were of other weights, every ratio would be wrong unnoticed.
"""

import contextlib
import math

import pytest
import torch

from r1lite import fast
from r1lite.fast.decoder import FusedDecoder, FusedSampler
from r1lite.policy import sample as sample_module
from r1lite.policy import sample_groups, token_logps
from r1lite.policy.load import load_policy, save_policy
from r1lite.policy.sample import HFDecoder, generate, pick
from r1lite.records import Problem, UserError
from r1lite.world import make_problems

N_TOKENS = 24


@pytest.fixture(scope="module")
def policy(mini_folder):
    return load_policy(mini_folder, device="cpu")


@pytest.fixture(scope="module")
def problems():
    """Prompts of several lengths, so that padding on the left is at work."""
    found = [
        p for family in ("countdown", "chat", "logic") for p in make_problems(family, "train", 3)
    ]
    assert len({len(p.question.split()) for p in found}) > 3
    return found


WAY = {"fused": False}


@pytest.fixture(autouse=True, params=["plain", "fused"])
def way(request, monkeypatch):
    """Every test is held by the plain way and by the fast one; both give the same answers."""
    monkeypatch.setitem(WAY, "fused", request.param == "fused")


def draw(policy, problems, group_size=4, **settings):
    settings = {"max_new_tokens": N_TOKENS, "seed": 3, "step": 5} | settings
    with fast.sampling(policy, 1) if WAY["fused"] else contextlib.nullcontext(policy) as sampler:
        return sample_groups(sampler, problems, group_size=group_size, **settings)


def tokens(groups):
    return {
        (g.problem.problem_id, i): r.token_ids for g in groups for i, r in enumerate(g.completions)
    }


@pytest.fixture(scope="module")
def expected(policy, problems):
    found = tokens(draw(policy, problems))
    lengths = {len(ids) for ids in found.values()}
    assert len(lengths) > 4, "answers of one length would prove nothing"
    return found


def test_the_same_key_gives_the_same_answers(policy, problems, expected):
    assert tokens(draw(policy, problems)) == expected


def test_the_order_of_problems_does_not_matter(policy, problems, expected):
    assert tokens(draw(policy, problems[::-1])) == expected


def test_the_company_of_other_problems_does_not_matter(policy, problems, expected):
    for problem in problems:
        for key, ids in tokens(draw(policy, [problem])).items():
            assert ids == expected[key]


def test_more_answers_leave_the_first_ones_as_they_were(policy, problems, expected):
    more = tokens(draw(policy, problems, group_size=7))
    assert {key: more[key] for key in expected} == expected


def test_a_longer_limit_only_goes_on(policy, problems, expected):
    for key, ids in tokens(draw(policy, problems, max_new_tokens=40)).items():
        assert ids[:N_TOKENS] == expected[key]


@pytest.mark.parametrize("rows_at_once", [1, 4, 11])
@pytest.mark.parametrize("compact_below", [0.0, 0.3, 1.0])
def test_batch_size_and_dropped_rows_do_not_matter(
    policy, problems, expected, monkeypatch, rows_at_once, compact_below
):
    monkeypatch.setattr(sample_module, "ROWS_AT_ONCE", rows_at_once)
    monkeypatch.setattr(FusedSampler, "rows_at_once", rows_at_once)
    for kind in (HFDecoder, FusedDecoder):
        monkeypatch.setattr(kind, "compact_below", compact_below)
    groups = draw(policy, problems)
    assert tokens(groups) == expected
    assert [g.problem for g in groups] == problems


@pytest.mark.parametrize("change", [{"seed": 4}, {"step": 6}])
def test_another_key_gives_other_answers(policy, problems, expected, change):
    found = tokens(draw(policy, problems, **change))
    assert sum(found[key] == expected[key] for key in expected) < len(expected) / 4


def test_answers_of_a_group_differ(expected):
    assert len(set(expected.values())) > 0.9 * len(expected)


def test_two_problems_with_one_question_are_sampled_apart(policy, problems):
    first = problems[0]
    twin = Problem("another id", *(getattr(first, k) for k in Problem.REQUIRED[1:]))
    a, b = draw(policy, [first, twin])
    assert [r.token_ids for r in a.completions] != [r.token_ids for r in b.completions]


@pytest.mark.parametrize("block", [1, 5, 64])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probabilities_are_the_trainers_after_a_large_update(
    mini, problems, temperature, block, monkeypatch
):
    """Sampled from the weights as they are now, at the temperature that was asked for."""
    before = tokens(draw(mini, problems, temperature=temperature))
    torch.manual_seed(0)
    with torch.no_grad():
        for p in mini.model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    monkeypatch.setattr(HFDecoder, "compact_below", 1.0)
    monkeypatch.setattr(FusedDecoder, "block", block)
    groups = draw(mini, problems, temperature=temperature)
    assert tokens(groups) != before
    n_tokens = 0
    for group in groups:
        for completion in group.completions:
            ids = torch.tensor([[*group.prompt_ids, *completion.token_ids]])
            with torch.no_grad():
                logps = token_logps(mini.model, ids, temperature=temperature)
            wanted = logps[0, len(group.prompt_ids) - 1 :]
            assert (wanted - torch.tensor(completion.logps)).abs().max() < 1e-4
            n_tokens += len(completion.token_ids)
    assert n_tokens > 200


def test_top_p_keeps_the_log_probability_of_the_whole_softmax(policy, problems):
    group = draw(policy, problems[:1], group_size=6, top_p=0.5)[0]
    for completion in group.completions:
        ids = torch.tensor([[*group.prompt_ids, *completion.token_ids]])
        with torch.no_grad():
            wanted = token_logps(policy.model, ids)[0, len(group.prompt_ids) - 1 :]
        assert (wanted - torch.tensor(completion.logps)).abs().max() < 1e-4


def test_pick_draws_from_the_softmax():
    """An even grid of 20,000 uniforms must land on each token as often as its probability."""
    logits, n = torch.tensor([2.0, -1.0, 0.5, 0.0, -3.0]), 20_000
    uniforms = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    for temperature in (1.0, 0.5):
        probs = torch.softmax(logits.double() / temperature, -1)
        ids, logps = pick(logits.expand(n, 5), uniforms, temperature, 1.0)
        shares = torch.bincount(ids, minlength=5) / n
        assert (shares - probs).abs().max() < 2 / n
        assert (logps - probs.log()[ids]).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("top_p", "nucleus"),
    [
        (0.05, {2}),
        (0.39, {2}),
        (0.41, {2, 0}),
        (0.69, {2, 0}),
        (0.71, {2, 0, 3}),
        (0.95, {2, 0, 3, 1}),
    ],
)
def test_top_p_keeps_exactly_the_nucleus(top_p, nucleus):
    """The likeliest tokens until their sum reaches top_p, renormalised; never an empty set."""
    probs, n = torch.tensor([0.3, 0.1, 0.4, 0.2]), 10_000
    uniforms = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    ids, logps = pick(probs.log().expand(n, 4), uniforms, 1.0, top_p)
    shares = torch.bincount(ids, minlength=4) / n
    kept = sum(probs[i].item() for i in nucleus)
    for i in range(4):
        wanted = probs[i].item() / kept if i in nucleus else 0.0
        assert shares[i].item() == pytest.approx(wanted, abs=2 / n)
    assert (logps - probs.log()[ids]).abs().max() < 1e-6


def test_pick_at_the_ends_of_the_unit_interval():
    """A token of probability 0 must not be drawn, not even at uniform 0 or just below 1."""
    logits = torch.tensor([-math.inf, 0.0, -math.inf, 0.0, -math.inf]).expand(2, 5)
    ends = torch.tensor([0.0, math.nextafter(1.0, 0.0)], dtype=torch.float64)
    assert pick(logits, ends, 1.0, 1.0)[0].tolist() == [1, 3]


def test_temperature_0_is_greedy(policy, problems):
    groups = draw(policy, problems[:2], group_size=3, temperature=0)
    for group in groups:
        assert len({r.token_ids for r in group.completions}) == 1
        ids = torch.tensor([[*group.prompt_ids, *group.completions[0].token_ids]])
        with torch.no_grad():
            best = policy.model(input_ids=ids).logits[0, len(group.prompt_ids) - 1 : -1].argmax(-1)
        assert best.tolist() == list(group.completions[0].token_ids)


def test_truncated_and_length(policy, problems):
    """The stop token ends an answer and belongs to it; an answer without one was cut off."""
    n_truncated = n_stopped = 0
    for group in draw(policy, problems, group_size=8):
        for completion in group.completions:
            *body, last = completion.token_ids
            assert policy.stop_id not in body
            assert len(completion.logps) == len(completion.token_ids) <= N_TOKENS
            assert completion.truncated == (last != policy.stop_id)
            assert len(completion.token_ids) == N_TOKENS or not completion.truncated
            assert "<eos>" not in completion.text
            n_truncated, n_stopped = (
                n_truncated + completion.truncated,
                n_stopped + (not completion.truncated),
            )
    assert n_truncated and n_stopped


def test_the_shortest_limit_works(policy, problems):
    for group in draw(policy, problems, max_new_tokens=1):
        for completion in group.completions:
            assert len(completion.token_ids) == 1
            assert completion.truncated == (completion.token_ids[0] != policy.stop_id)


def test_a_prompt_that_does_not_fit_names_the_numbers(policy, problems):
    problem = problems[0]
    n = len(policy.encode(f"User : {problem.question} Assistant :"))
    draw(policy, [problem], group_size=2, max_new_tokens=policy.max_length - n)
    with pytest.raises(UserError) as caught:
        draw(policy, [problem], max_new_tokens=policy.max_length - n + 1)
    for part in (problem.problem_id, str(n), "128", str(policy.max_length - n), "max_new_tokens"):
        assert part in str(caught.value)


def test_a_word_the_model_does_not_know_is_named(policy):
    problem = Problem("p", "countdown", "1-2-3", "en", "make 24 from seven .", {})
    with pytest.raises(UserError, match="'seven'"):
        draw(policy, [problem])


def test_sampling_leaves_model_and_random_state_alone(mini, problems):
    mini.model.train()
    state = torch.get_rng_state()
    weights = {k: v.clone() for k, v in mini.model.state_dict().items()}
    draw(mini, problems[:2])
    assert mini.model.training and torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(v, weights[k]) for k, v in mini.model.state_dict().items())


def test_saving_and_loading_changes_no_answer(mini, problems, expected, tmp_path):
    save_policy(mini, tmp_path / "copy")
    again = load_policy(str(tmp_path / "copy"), device="cpu")
    assert tokens(draw(again, problems)) == expected


def test_generate_takes_token_prompts_of_any_kind(policy, problems):
    """Half an answer, a judge's prompt: what it samples depends on the key and on the tokens."""
    groups = draw(policy, problems)
    prompts = [list(g.prompt_ids) for g in groups]
    keys = [(3, 5, p.problem_id) for p in problems]
    completions = generate(policy, prompts, keys, group_size=4, max_new_tokens=N_TOKENS)
    assert [[c.token_ids for c in group] for group in completions] == [
        [c.token_ids for c in g.completions] for g in groups
    ]
    first = groups[0].completions[0]
    longer = prompts[0] + list(first.token_ids[:3])
    (((one),),) = generate(policy, [longer], [("a", 1)], max_new_tokens=5)
    (((same),),) = generate(policy, [longer], [("a", 1)], max_new_tokens=5)
    assert one == same and 1 <= len(one.token_ids) <= 5
    with pytest.raises(UserError, match="context"):
        generate(policy, [longer], [("a", 1)], max_new_tokens=10**4)
