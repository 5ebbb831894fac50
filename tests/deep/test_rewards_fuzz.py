"""A hundred thousand drawn answers: no crash, no hang, and worth what another judge says.

The draws and the judges are those of test_rewards_attacks.py, of which `make test` runs 2,000.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_rewards_attacks import check_draw, check_language, check_maths

pytestmark = pytest.mark.deep
SEEDS = st.integers(0, 2**63 - 1)
AT_ONCE = 20  # answers in mathematics of one example, as each costs a process milliseconds


@settings(max_examples=50_000, deadline=2000)
@given(SEEDS)
def test_countdown(seed):
    check_draw("countdown", seed)


@settings(max_examples=30_000, deadline=2000)
@given(SEEDS)
def test_format(seed):
    check_draw("format", seed)


@settings(max_examples=17_000, deadline=2000)
@given(SEEDS)
def test_science(seed):
    check_draw("science", seed)


@settings(max_examples=10_000, deadline=2000)
@given(SEEDS)
def test_language(seed):
    check_language(seed)


@settings(max_examples=3_000 // AT_ONCE, deadline=30_000)
@given(st.lists(SEEDS, min_size=AT_ONCE, max_size=AT_ONCE, unique=True))
def test_maths(seeds):
    check_maths(seeds)
