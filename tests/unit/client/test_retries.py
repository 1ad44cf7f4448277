"""Pauses between tries."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from expunge.client import RetryPolicy

DRAWS = st.floats(0, 1, exclude_max=True)


@given(st.integers(1, 40), DRAWS)
def test_a_pause_doubles_up_to_the_longest_and_keeps_at_least_half(retry: int, draw: float) -> None:
    policy = RetryPolicy(first_s=0.1, longest_s=5.0)
    whole = min(0.1 * 2 ** (retry - 1), 5.0)
    assert whole / 2 <= policy.pause_s(retry, None, draw) <= whole


@given(st.integers(1, 40), st.floats(0, 100), DRAWS)
def test_a_pause_is_never_shorter_than_the_service_asked_for(retry: int, asked: float, draw: float) -> None:
    assert asked <= RetryPolicy().pause_s(retry, asked, draw) <= asked * 1.1
