"""What the next request is expected to take."""

from __future__ import annotations

import pytest

from expunge.gateway.pace import Kind, Pace
from gateway.hand_clock import HandClock

KIND = Kind.of("default", "v1", prompt_tokens=20)


def measure(pace: Pace, clock: HandClock, first_s: float, kind: Kind = KIND) -> None:
    stopwatch = pace.begin(kind)
    clock.pass_by(first_s)
    stopwatch.tokens(1)
    stopwatch.stop()


def test_nothing_is_expected_where_nothing_was_measured() -> None:
    pace = Pace(HandClock())
    pace.begin(KIND)
    assert pace.first_token_s(KIND) is None
    assert pace.answer_s(KIND, 10) is None


def test_a_request_that_nothing_holds_up_is_expected_as_fast_as_the_fastest() -> None:
    clock = HandClock()
    pace = Pace(clock)
    for seconds in (0.5, 8.0, 8.0, 8.0):
        measure(pace, clock, seconds)
    assert pace.first_token_s(KIND) == 0.5


def test_while_others_wait_the_mean_counts() -> None:
    clock = HandClock()
    pace = Pace(clock)
    for _ in range(50):
        measure(pace, clock, 4.0)
    measure(pace, clock, 1.0)
    waiting = pace.begin(KIND)
    assert pace.first_token_s(KIND) == pytest.approx(3.4, abs=0.01)
    waiting.stop()
    assert pace.first_token_s(KIND) == 1.0


def test_a_mean_that_nothing_confirms_fades_to_the_fastest() -> None:
    clock = HandClock()
    pace = Pace(clock)
    measure(pace, clock, 1.0)
    for _ in range(50):
        measure(pace, clock, 5.0)
    pace.begin(KIND)
    expected = [pace.first_token_s(KIND)]
    for _ in range(12):
        clock.pass_by(10)
        expected.append(pace.first_token_s(KIND))
    assert expected[1] == pytest.approx(3.0, abs=0.01)
    assert expected[-1] == pytest.approx(1.0, abs=0.01)
    assert expected == sorted(expected, reverse=True)


def test_an_answer_takes_its_first_token_and_the_pace_of_the_others() -> None:
    clock = HandClock()
    pace = Pace(clock)
    stopwatch = pace.begin(KIND)
    clock.pass_by(1.0)
    stopwatch.tokens(1)
    clock.pass_by(0.4)
    stopwatch.tokens(4)
    stopwatch.stop()
    assert pace.answer_s(KIND, 11) == pytest.approx(1.0 + 10 * 0.1)


@pytest.mark.parametrize(
    "other",
    [
        Kind.of("default", "v2", prompt_tokens=20),
        Kind.of("other", "v1", prompt_tokens=20),
        Kind.of("default", "v1", prompt_tokens=2000),
    ],
)
def test_versions_aliases_and_long_prompts_are_measured_apart(other: Kind) -> None:
    clock = HandClock()
    pace = Pace(clock)
    measure(pace, clock, 3.0)
    assert pace.first_token_s(other) is None


def test_only_so_many_kinds_are_remembered() -> None:
    clock = HandClock()
    pace = Pace(clock)
    kinds = [Kind.of("default", f"v{number}", prompt_tokens=20) for number in range(600)]
    for kind in kinds:
        measure(pace, clock, 1.0, kind)
    assert pace.first_token_s(kinds[0]) is None
    assert pace.first_token_s(kinds[-1]) == 1.0
