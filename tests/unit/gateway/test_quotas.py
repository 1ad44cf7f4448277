"""The token bucket, and which priority a client gets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge.gateway.quotas import Quota, TokenBucket
from expunge.inference.request import Priority
from gateway.hand_clock import HandClock

BURST = 1000
counts = st.integers(0, BURST)


def test_a_bucket_begins_full_and_fills_at_its_rate() -> None:
    clock = HandClock()
    bucket = TokenBucket(per_minute=600, burst=100, clock=clock)
    bucket.take(100)
    assert bucket.level == 0
    assert bucket.seconds_until(50) == pytest.approx(5)
    clock.pass_by(5)
    assert bucket.level == pytest.approx(50)
    clock.pass_by(3600)
    assert bucket.level == 100


def test_what_is_not_there_can_not_be_taken() -> None:
    bucket = TokenBucket(per_minute=60, burst=10, clock=HandClock())
    bucket.take(8)
    with pytest.raises(ValueError, match="holds 2"):
        bucket.take(3)
    assert bucket.level == 2


def test_more_than_the_burst_never_comes() -> None:
    assert TokenBucket(per_minute=60, burst=10, clock=HandClock()).seconds_until(11) == float("inf")


def test_what_was_used_beyond_what_was_taken_is_paid_before_anything_is_taken_again() -> None:
    clock = HandClock()
    bucket = TokenBucket(per_minute=60, burst=10, clock=clock)
    bucket.take(10)
    bucket.settle(taken=10, used=15)
    assert bucket.level == 0
    assert bucket.seconds_until(1) == pytest.approx(6)
    clock.pass_by(6)
    assert bucket.level == pytest.approx(1)


@given(taken=counts, used=counts)
def test_exactly_what_was_not_used_comes_back(taken: int, used: int) -> None:
    bucket = TokenBucket(per_minute=60, burst=BURST, clock=HandClock())
    bucket.take(taken)
    bucket.settle(taken, min(used, taken))
    assert bucket.level == BURST - min(used, taken)


@given(
    steps=st.lists(st.tuples(st.floats(0, 100), counts, st.integers(0, 2 * BURST)), max_size=40),
    per_minute=st.integers(1, 10_000),
)
def test_the_level_is_never_negative_and_never_above_the_burst(
    steps: list[tuple[float, int, int]], per_minute: int
) -> None:
    clock = HandClock()
    bucket = TokenBucket(per_minute, BURST, clock)
    for seconds, asked, used in steps:
        clock.pass_by(seconds)
        assert 0 <= bucket.level <= BURST
        if bucket.seconds_until(asked) == 0:
            bucket.take(asked)
            assert 0 <= bucket.level <= BURST
            bucket.settle(asked, used)
        assert 0 <= bucket.level <= BURST


@given(asked=st.lists(counts, min_size=1, max_size=60), seconds=st.floats(0.1, 10))
def test_no_more_is_taken_than_the_burst_and_what_flowed_in(asked: list[int], seconds: float) -> None:
    clock = HandClock()
    bucket = TokenBucket(per_minute=600, burst=BURST, clock=clock)
    taken = 0
    for tokens in asked:
        clock.pass_by(seconds)
        if bucket.seconds_until(tokens) == 0:
            bucket.take(tokens)
            taken += tokens
    assert taken <= BURST + 10 * seconds * len(asked) + 1e-6


def test_a_client_gets_no_higher_priority_than_its_own() -> None:
    for quota, asked, granted in (
        (Priority.INTERACTIVE, Priority.INTERACTIVE, Priority.INTERACTIVE),
        (Priority.INTERACTIVE, Priority.BATCH, Priority.BATCH),
        (Priority.BATCH, Priority.INTERACTIVE, Priority.BATCH),
        (Priority.BATCH, Priority.BATCH, Priority.BATCH),
    ):
        assert Quota(priority=quota).granted(asked) is granted
