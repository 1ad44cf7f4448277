"""Wilson's interval against figures worked by hand and its limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge.auditing.intervals import Share, wilson


def test_wilson_of_eight_in_ten() -> None:
    # z² = 3.8414588; centre = (.8 + .19207294)/1.38414588; half = 1.95996398/1.38414588·√(.016 + .009603647)
    lower, upper = wilson(8, 10)
    assert lower == pytest.approx(0.4901625, abs=1e-6)
    assert upper == pytest.approx(0.9433178, abs=1e-6)


def test_wilson_of_no_hits_starts_at_zero_and_ends_at_z2_over_n_plus_z2() -> None:
    assert wilson(0, 20) == (0.0, pytest.approx(3.841458820694124 / 23.841458820694124))


def test_nothing_asked_is_any_share() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert Share.of([]).rate == 0.0


def test_more_hits_than_trials_is_refused() -> None:
    with pytest.raises(ValueError, match="no share"):
        wilson(3, 2)


@given(st.integers(1, 500), st.floats(0, 1))
def test_the_interval_holds_the_rate(n: int, rate: float) -> None:
    lower, upper = wilson(rate * n, n)
    assert 0 <= lower <= rate + 1e-12
    assert rate - 1e-12 <= upper <= 1


def test_share_goes_to_json_and_back() -> None:
    share = Share.of([True, False, 0.5])
    assert share == Share(1.5, 3)
    assert Share.from_dict(share.to_dict()) == share
