"""The decision what a canary does next, and what may be asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge.errors import InvalidRequest
from expunge.registry.canary import (
    Advance,
    BackOut,
    CanaryPlan,
    CanarySpec,
    CanaryState,
    Finish,
    Hold,
    StepTally,
    Tally,
    decide,
)
from expunge.registry.records import Target

SPEC = CanarySpec(steps=(10, 50, 100), step_s=60.0, min_requests=20, max_error_rate=0.1)
PLAN = CanaryPlan("default", "new", "old", SPEC, CanaryState.RUNNING, 0, 7, began_at=0.0, step_began_at=0.0)

NOTHING = Tally()

tallies = st.integers(0, 500).flatmap(
    lambda requests: st.builds(Tally, st.just(requests), st.integers(0, requests))
)
specs = st.builds(
    CanarySpec,
    steps=st.sets(st.integers(1, 99), max_size=4).map(lambda steps: (*sorted(steps), 100)),
    step_s=st.floats(0, 1000),
    min_requests=st.integers(0, 100),
    max_error_rate=st.floats(0, 1),
    max_error_increase=st.none() | st.floats(0, 1),
)


@st.composite
def plans(draw: st.DrawFn) -> CanaryPlan:
    spec = draw(specs)
    step = draw(st.integers(0, len(spec.steps) - 1))
    told = {7 + index: StepTally(draw(tallies), draw(tallies)) for index in range(step + 1)}
    return replace(PLAN, spec=spec, step=step, generation=7 + step, tallies=told)


def told(requests: int, failures: int, stable: Tally = NOTHING) -> CanaryPlan:
    return replace(PLAN, tallies={7: StepTally(Tally(requests, failures), stable)})


@given(plans(), st.floats(0, 2000))
def test_no_step_is_made_before_its_time_and_its_requests(plan: CanaryPlan, now: float) -> None:
    decision = decide(plan, now)
    if isinstance(decision, Advance | Finish):
        assert now >= plan.spec.step_s
        assert plan.now_tally.version.requests >= plan.spec.min_requests
    if isinstance(decision, Advance):
        assert decision.step == plan.step + 1 < len(plan.spec.steps)
    if isinstance(decision, Finish):
        assert plan.weight == 100


@given(plans(), st.floats(0, 2000))
def test_an_alarm_puts_it_back_whatever_was_counted(plan: CanaryPlan, now: float) -> None:
    assert decide(replace(plan, alarm="leaked"), now) == BackOut("leaked")


@given(plans(), st.floats(0, 2000))
def test_without_failures_it_is_never_put_back(plan: CanaryPlan, now: float) -> None:
    healthy = {
        generation: replace(tally, version=Tally(tally.version.requests))
        for generation, tally in plan.tallies.items()
    }
    assert not isinstance(decide(replace(plan, tallies=healthy), now), BackOut)


@given(plans(), st.integers(1, 100), st.floats(0, 2000))
def test_more_failures_never_save_it(plan: CanaryPlan, more: int, now: float) -> None:
    tally = plan.now_tally
    worse = replace(tally, version=tally.version + Tally(more, more))
    if isinstance(decide(plan, now), BackOut):
        later = replace(plan, tallies={**plan.tallies, plan.generation: worse})
        assert isinstance(decide(later, now), BackOut)


@given(plans())
def test_an_early_end_is_one_that_successes_could_not_have_averted(plan: CanaryPlan) -> None:
    plan = replace(plan, spec=replace(plan.spec, max_error_increase=None))
    tally = plan.now_tally
    missing = max(0, plan.spec.min_requests - tally.version.requests)
    saved = replace(tally, version=tally.version + Tally(missing))
    alone = replace(plan, tallies={plan.generation: tally})
    later = replace(plan, tallies={plan.generation: saved})
    assert isinstance(decide(alone, 0.0), BackOut) == isinstance(decide(later, 0.0), BackOut)


def test_exactly_the_threshold_is_not_above_it() -> None:
    assert isinstance(decide(told(20, 2), 1.0), Hold)
    assert isinstance(decide(told(20, 3), 1.0), BackOut)


def test_one_early_failure_is_no_verdict_but_three_are() -> None:
    assert isinstance(decide(told(1, 1), 1.0), Hold)
    assert decide(told(3, 3), 1.0) == BackOut("3 of 3 requests failed, above the threshold of 10.00%")


def test_a_failure_of_an_earlier_step_still_counts() -> None:
    plan = replace(told(30, 9), step=1, generation=8)
    assert isinstance(decide(plan, 1.0), BackOut)


def test_an_increase_is_measured_against_the_earlier_version_at_the_same_step() -> None:
    spec = replace(SPEC, max_error_rate=1.0, max_error_increase=0.05)
    both_fail = replace(told(100, 30, Tally(1000, 300)), spec=spec)
    assert isinstance(decide(both_fail, 1.0), Hold)
    one_fails = replace(told(100, 30, Tally(1000, 10)), spec=spec)
    decision = decide(one_fails, 1.0)
    assert isinstance(decision, BackOut)
    assert "5.00% above the earlier version's 1.00%" in decision.why


def test_at_100_percent_the_earlier_steps_of_the_earlier_version_are_compared_with() -> None:
    spec = replace(SPEC, max_error_rate=1.0, max_error_increase=0.05)
    told_of_both = {7: StepTally(Tally(100, 30), Tally(100, 30)), 9: StepTally(Tally(100, 30))}
    plan = replace(PLAN, spec=spec, step=2, generation=9, tallies=told_of_both)
    assert isinstance(decide(plan, 1.0), Hold)


def test_a_hold_says_what_it_waits_for() -> None:
    assert decide(PLAN, 12.0) == Hold("step 1 of 3 (10 %): 48 s left", 48.0)
    assert decide(told(3, 0), 60.0) == Hold("step 1 of 3 (10 %): 3 of 20 requests")


def test_the_earlier_version_comes_first_until_it_is_left() -> None:
    assert SPEC.targets(0, "new", "old") == (Target("old", 90), Target("new", 10))
    assert SPEC.targets(2, "new", "old") == (Target("new", 100),)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"steps": ()}, "canary.steps"),
        ({"steps": (10, 50)}, "canary.steps"),
        ({"steps": (50, 10, 100)}, "canary.steps"),
        ({"steps": (0, 100)}, "canary.steps"),
        ({"step_s": -1.0}, "canary.step_duration"),
        ({"step_s": float("nan")}, "canary.step_duration"),
        ({"min_requests": -1}, "canary.min_requests"),
        ({"max_error_rate": 5.0}, "canary.max_error_rate"),
        ({"max_error_increase": -0.1}, "canary.max_error_increase"),
    ],
)
def test_what_makes_no_sense_is_refused_by_field(changes: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        replace(SPEC, **changes).require_valid()  # type: ignore[arg-type]
    assert [violation.field for violation in caught.value.violations] == [field]
