"""Whether a reply does what an instruction asks: every check, met and missed."""

from __future__ import annotations

from typing import Any

import pytest

from expunge.auditing.ability.instructions import CHECKS, checks_of, follows

CASES: list[tuple[str, Any, list[str], list[str]]] = [
    ("contains", ["thank", "Book"], ["Thanks for the bóok."], ["I have no book.", "Rethank the book"]),
    ("holds", ["APPLE"], ["It is APPLE."], ["It is Apple."]),
    ("starts_with", "no", ["No.", "no, never"], ["None", "Yes, no"]),
    ("starts_with", "Once upon a time", ["Once upon a time, there was"], ["Once upon"]),
    ("ends_with", "goodbye", ["And so: Goodbye!"], ["Goodbye, my friend"]),
    ("in_order", ["one", "two"], ["One and two", "One, one, two"], ["two, one", "onetwo"]),
    ("least_words", 3, ["It is so."], ["It is."]),
    ("most_words", 2, ["Green grass."], ["It is green."]),
    ("numbered", 2, ["1. Dog\n2. Cat", "Here:\n 1) Dog\n 2) Cat"], ["1. Dog", "1. Dog\n3. Cat", "1.\n2."]),
    ("bullets", 2, ["- Tea\n- Milk", "* Tea\n• Milk"], ["- Tea", "- Tea\n- Milk\n- Wine"]),
    ("lines", 1, ["Tea, milk\n"], ["Tea\nMilk"]),
    ("least_commas", 2, ["Tea, milk, wine"], ["Tea, milk and wine"]),
    (
        "json",
        {"colour": "blue"},
        ['```\n{"colour": "blue"}\n```', '{"shade": 1} {"colour": "blue", "n": 2}'],
        ['{"colour": "red"}', "{colour: blue}", "colour: blue"],
    ),
]


@pytest.mark.parametrize(("name", "wanted", "met", "missed"), CASES)
def test_a_check_knows_what_meets_it(name: str, wanted: Any, met: list[str], missed: list[str]) -> None:
    checks = checks_of({name: wanted})
    assert [follows(reply, checks) for reply in met] == [True] * len(met)
    assert [follows(reply, checks) for reply in missed] == [False] * len(missed)


def test_every_check_is_tried() -> None:
    assert {name for name, *_ in CASES} == set(CHECKS)


def test_all_checks_must_hold() -> None:
    checks = checks_of({"contains": ["cat"], "most_words": 3})
    assert follows("The cat.", checks)
    assert not follows("The cat sleeps here.", checks)
