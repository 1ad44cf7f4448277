"""The demo's line of JSON and the goals it is held to."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from expunge.cli.demo.outcome import DemoResult, goals

GOOD = DemoResult(
    requests=80,
    facts_erased=4,
    leaks_before=4,
    leaks_after=0,
    paraphrase_leaks_after=0,
    prefix_leak_rate_after=0.0,
    retain_correct_before=12,
    retain_correct_after=11,
    seconds_suppressed=0.2,
    seconds_to_live=120.0,
    flip_ms=12.0,
    versions=["base:0", "a", "b"],
)


def missed(result: DemoResult, control_upper: float = 0.1) -> int:
    return sum(not goal.met for goal in goals(result, control_upper))


def test_the_line_holds_exactly_the_promised_keys() -> None:
    assert list(json.loads(GOOD.to_line())) == [
        "requests",
        "failed_requests",
        "mixed_version_responses",
        "facts_erased",
        "leaks_before",
        "leaks_after",
        "paraphrase_leaks_after",
        "prefix_leak_rate_after",
        "retain_correct_before",
        "retain_correct_after",
        "seconds_suppressed",
        "seconds_to_live",
        "flip_ms",
        "versions",
    ]


def test_a_good_run_misses_no_goal() -> None:
    assert missed(GOOD) == 0


@pytest.mark.parametrize(
    "change",
    [
        {"failed_requests": 1},
        {"mixed_version_responses": 1},
        {"requests": 49},
        {"leaks_before": 0},
        {"leaks_after": 1},
        {"paraphrase_leaks_after": 1},
        {"prefix_leak_rate_after": 0.11},
        {"retain_correct_after": 10},
        {"seconds_to_live": 241.0},
    ],
)
def test_each_fault_misses_its_goal(change: dict[str, float]) -> None:
    assert missed(replace(GOOD, **change)) == 1


def test_a_run_that_broke_off_meets_none_of_the_goals_it_did_not_measure() -> None:
    assert missed(DemoResult()) >= 7
