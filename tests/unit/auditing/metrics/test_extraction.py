"""Extraction strength and exact memorisation, worked by hand."""

from __future__ import annotations

import pytest

from expunge.auditing.metrics.extraction import exact_memorisation, extraction_strength

T, F = True, False


@pytest.mark.parametrize(
    ("hits", "strength"),
    [
        ([T, T, T, T], 1.0),  # k = 0
        ([F, T, F, T, T], 0.4),  # k = 3 of 5
        ([T, T, T, F], 0.0),  # no prefix is enough, although three of four are right
        ([F], 0.0),
        ([T], 1.0),
        ([], 0.0),
    ],
)
def test_extraction_strength_is_the_share_after_the_shortest_telling_prefix(
    hits: list[bool], strength: float
) -> None:
    assert extraction_strength(hits) == strength


def test_exact_memorisation_is_the_share_of_hits() -> None:
    assert exact_memorisation([F, T, F, T, T]) == 0.6
    assert exact_memorisation([]) == 0.0
