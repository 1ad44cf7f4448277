"""From responses to figures."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge.benchmarks.serving.plan import Ask, Plan, Response
from expunge.benchmarks.serving.statistics import Spread, figures, gaps, percentile, ratio


@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.floats(0, 100))
def test_percentiles_are_those_of_numpy(values: list[float], percent: float) -> None:
    assert percentile(values, percent) == pytest.approx(float(np.percentile(values, percent)), abs=1e-6)


def test_nothing_has_no_percentile() -> None:
    assert math.isnan(percentile([], 50))


def test_tokens_that_arrive_together_share_their_gap() -> None:
    assert gaps([(1.0, 1), (1.5, 1), (2.1, 3)]) == pytest.approx([0.5, 0.2, 0.2, 0.2])


def test_tokens_of_the_first_arrival_have_no_gap() -> None:
    assert gaps([(1.0, 4)]) == []


def response(sent: float, *arrivals: tuple[float, int], **fields: object) -> Response:
    tokens = sum(count for _, count in arrivals)
    whole = {"model": "m", "sent": sent, "done": arrivals[-1][0] if arrivals else sent, "tokens": tokens}
    return Response(**{**whole, "arrivals": arrivals, "versions": ("v",), **fields})  # type: ignore[arg-type]


def plan(*most: int) -> Plan:
    return Plan(tuple(Ask("m", "p", tokens) for tokens in most), streams=2)


def test_throughput_counts_all_tokens_from_the_first_send_to_the_last_end() -> None:
    found = figures(plan(3, 2), [response(1.0, (1.5, 1), (2.0, 2)), response(2.0, (2.25, 1), (3.5, 1))])
    assert (found.output_tokens, found.seconds, found.tokens_per_s) == (5, 2.5, 2.0)
    assert found.first_token_s == Spread(0.375, pytest.approx(0.4975))
    assert found.inter_token_s.p50 == 0.25
    assert found.end_to_end_s.p50 == 1.25
    assert (found.errors, found.mixed_versions, found.short) == (0, 0, 0)


def test_a_failed_request_counts_as_failed_and_gives_no_figures() -> None:
    failed = response(1.0, (1.1, 1), error="UNAVAILABLE: gone")
    found = figures(plan(2, 2), [failed, response(1.0, (2.0, 1), (3.0, 1))])
    assert (found.requests, found.errors, found.first_error) == (2, 1, "UNAVAILABLE: gone")
    assert found.output_tokens == 2
    assert found.first_token_s.p50 == 1.0


def test_answers_of_two_versions_and_short_ones_are_counted() -> None:
    found = figures(plan(4, 1), [response(0.0, (1.0, 3), versions=("v", "w")), response(0.0, (1.0, 1))])
    assert (found.mixed_versions, found.short) == (1, 1)


def test_the_range_of_prompt_lengths_is_told() -> None:
    responses = [response(0.0, (1.0, 1), prompt_tokens=length) for length in (32, 33)]
    assert figures(plan(1, 1), responses).prompt_tokens == (32, 33)


def test_a_ratio_to_nothing_says_nothing() -> None:
    assert math.isnan(ratio(1.0, 0.0))
    assert math.isnan(ratio(math.nan, 1.0))
    assert ratio(3.0, 2.0) == 1.5
