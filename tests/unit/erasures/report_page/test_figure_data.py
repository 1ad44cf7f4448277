"""From a stored report to what its figures show."""

from __future__ import annotations

import math

import pytest

from expunge.erasures.report_page.figure_data import FigureData
from report_case import FACT_IDS, VERSION, full_report


def test_memo_is_told_before_and_after_for_every_fact() -> None:
    memo = FigureData(full_report()).memo
    assert memo is not None
    assert set(memo.fact_ids) == set(FACT_IDS)
    assert (memo.before, memo.after) == ((0.6,) * 5, (0.1,) * 5)


def test_the_best_remembered_facts_are_drawn_where_there_are_many() -> None:
    report = full_report()
    report["memo"]["facts"] = {f"fact-{n}": n / 100 for n in range(100)}
    memo = FigureData(report).memo
    assert memo is not None
    assert (memo.fact_ids[0], len(memo.fact_ids), memo.facts) == ("fact-99", 24, 100)
    assert not memo.has_after


def test_prefix_leaks_lie_in_the_middle_of_their_part_of_the_answer() -> None:
    curve = FigureData(full_report()).prefixes
    assert curve is not None
    assert (curve.given[0], curve.given[-1]) == (5, 95)
    assert (curve.erased[0].n, curve.erased[2].rate, curve.control[2].rate) == (0, 0.5, 0)


def test_extraction_strength_stands_beside_what_the_gate_allows() -> None:
    data = FigureData(full_report())
    assert data.strengths is not None
    assert data.audit is not None
    assert data.strengths.allowed == data.audit["gates"][1]["threshold"]
    assert len(data.strengths.control) == 10


def test_every_answer_is_in_one_column_of_the_histogram() -> None:
    histogram = FigureData(full_report()).probabilities
    assert histogram is not None
    assert {name: math.fsum(shares) for name, shares in histogram.groups.items()} == pytest.approx(
        {"erased": 1, "control": 1, "before": 1}
    )
    assert histogram.counts == {"erased": 5, "control": 10, "before": 5}
    assert 10 ** histogram.edges[0] <= math.exp(-5) < 1 == 10 ** histogram.edges[-1]


def test_membership_is_certain_where_every_erased_answer_is_likelier_than_any_control() -> None:
    loss, lowest = FigureData(full_report()).membership
    assert (loss.area.value, lowest.area.value) == (1, 1)
    assert (loss.right[0], loss.right[-1], loss.wrong[-1]) == (0, 1, 1)


def test_terms_that_differ_by_a_number_are_drawn_as_one() -> None:
    losses = FigureData(full_report()).losses
    assert losses is not None
    assert losses.runs == ({"loss": (3, 1), "keep": (1, 0.5)},)


def test_a_state_lasts_until_the_next_one() -> None:
    timings = FigureData(full_report()).timings
    assert timings is not None
    assert timings.states == ("accepted", "suppressed", "training")
    assert timings.seconds == pytest.approx((0.05, 2.95, 87))


def test_the_audit_of_the_version_that_came_out_is_told() -> None:
    report = full_report()
    (audit,) = report["audits"]
    report["audits"] = [audit, {**audit, "id": "other", "version": "6" * 64}]
    chosen = FigureData(report).audit
    assert chosen is not None
    assert chosen["version"] == VERSION


def test_a_report_of_an_earlier_release_has_no_data_for_figures() -> None:
    report = full_report()
    for key in ("series", "conditions", "definitions"):
        del report["audits"][0][key]
    del report["memo"]["facts"], report["training"]["runs"]
    data = FigureData(report)
    assert data.membership == ()
    assert [data.memo, data.prefixes, data.strengths, data.probabilities, data.layers, data.losses] == [
        None
    ] * 6
