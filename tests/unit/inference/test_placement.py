"""Refusals are remembered for a moment."""

from __future__ import annotations

from expunge.inference.placement import REFUSAL_S, Refusals


def test_a_refusal_counts_for_its_version_until_its_moment_is_over() -> None:
    now = [0.0]
    refusals = Refusals(lambda: now[0])
    refusals.note("one", "v")
    now[0] = REFUSAL_S / 2
    refusals.note("two", "v")
    assert refusals.of("v") == {"one", "two"}
    assert refusals.of("w") == set()
    now[0] = REFUSAL_S
    assert refusals.of("v") == {"two"}
    now[0] = REFUSAL_S * 2
    assert refusals.of("v") == set()


def test_a_second_refusal_renews_the_first() -> None:
    now = [0.0]
    refusals = Refusals(lambda: now[0])
    refusals.note("one", "v")
    refusals.note("two", "v")
    now[0] = REFUSAL_S / 2
    refusals.note("one", "v")
    now[0] = REFUSAL_S
    assert refusals.of("v") == {"one"}


def test_memory_of_refusals_is_bounded() -> None:
    refusals = Refusals(lambda: 0.0)
    for number in range(5000):
        refusals.note(f"replica {number}", "v")
    assert "replica 4999" in refusals.of("v")
    assert "replica 0" not in refusals.of("v")
