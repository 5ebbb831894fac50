"""The bench of rewards: real answers, a rate for each, a table."""

import pytest
from speed import rewards as bench_rewards

from r1lite.world import FAMILIES


def test_the_table_says_rates_and_what_a_rollout_costs():
    """By hand: 256 answers at 128,000 a second are 2 ms, at 64 a second 4 s."""
    found = {"format": 128_000.0, "accuracy, countdown": 51_200.4, "maths": 64.0}
    assert bench_rewards.table(found).splitlines() == [
        "| reward | answers a second | 256 answers |",
        "|---|---|---|",
        "| format | 128,000 | 2.0 ms |",
        "| accuracy, countdown | 51,200 | 5.0 ms |",
        "| maths | 64 | 4,000.0 ms |",
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_are_read_with_their_own_problems(family, tmp_path, monkeypatch):
    """Recorded ones where there are any; else texts of the base, so that it runs anywhere."""
    recorded = bench_rewards.answers(family, n=20)
    monkeypatch.setattr(bench_rewards, "RECORDED", tmp_path)
    invented = bench_rewards.answers(family, n=20)
    for rows in (recorded, invented):
        assert 0 < len(rows) <= 20
        assert all(p.family == family and isinstance(text, str) and text for p, text in rows)


def test_every_reward_is_timed(monkeypatch):
    """The median leaves out the first round, which starts the workers."""
    few = bench_rewards.answers
    monkeypatch.setattr(bench_rewards, "answers", lambda family: few(family, n=5))
    monkeypatch.setattr(bench_rewards, "PAIRS", bench_rewards.PAIRS[:2])
    cpp = bench_rewards.bench_cpp
    monkeypatch.setattr(bench_rewards, "bench_cpp", lambda rounds: cpp(rounds, n=2))
    found = bench_rewards.bench_rewards(rounds=1)
    named = {"format", "language", "maths", "code, Python"}
    named |= {"code, C++: compiling", "code, C++: running"}
    assert set(found) == named | {f"accuracy, {f}" for f in FAMILIES}
    assert all(rate > 0 for rate in found.values())
