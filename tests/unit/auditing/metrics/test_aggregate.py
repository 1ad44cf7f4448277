"""Aggregates against reference figures and by hand."""

from __future__ import annotations

import pytest

from expunge.auditing.metrics.aggregate import (
    ability_delta,
    aggregate,
    harmonic_mean,
    memorisation_score,
    privacy_score,
)
from expunge.auditing.metrics.muse import knowledge_memorisation, privacy_leak, verbatim_memorisation
from expunge.errors import InvalidRequest


@pytest.mark.parametrize(
    ("parts", "published"),
    [((0.31, 1.0, 0.99), 0.58), ((0.32, 0.63, 1.0), 0.53)],  # tuned Llama-3.2-1B: retain-only, SimNPO
)
def test_golden_aggregate_of_published_parts(parts: tuple[float, float, float], published: float) -> None:
    assert aggregate(*parts) == pytest.approx(published, abs=0.01)  # the parts have two digits


def test_memorisation_is_a_harmonic_mean_of_what_is_not_memorised() -> None:
    assert memorisation_score(0.5, 0.5, 0.0, 0.75) == pytest.approx(4 / (2 + 2 + 1 + 4))
    assert memorisation_score(1.0, 0.2, 0.2, 0.2) == 0.0
    with pytest.raises(InvalidRequest, match=r"values\[0\]"):
        memorisation_score(1.5, 0.5, 0.5, 0.5)
    with pytest.raises(InvalidRequest, match="values: needs"):
        harmonic_mean([])


def test_privacy_is_two_sided() -> None:
    right = {"loss": 0.4, "zlib": 0.4}
    assert privacy_score(right, right) == 1.0
    above, below = ({"loss": 0.4, "zlib": 0.4 + step} for step in (0.3, -0.3))
    assert privacy_score(above, right) == pytest.approx(privacy_score(below, right))
    assert privacy_score(above, right) == pytest.approx(2 / (1 + 2))
    with pytest.raises(InvalidRequest, match="same attacks"):
        privacy_score({"loss": 0.4}, right)


def test_privacy_leak_is_nothing_where_nothing_changed() -> None:
    assert privacy_leak(0.5, 0.5) == 0.0
    assert privacy_leak(1.0, 0.5) == -100.0  # still known
    assert privacy_leak(0.0, 0.5) == 100.0  # over-unlearned
    for auc, retained in ((1.2, 0.5), (0.5, 1.0)):
        with pytest.raises(InvalidRequest):
            privacy_leak(auc, retained)


def test_verbatim_and_knowledge_memorisation_are_rouge_l_f1() -> None:
    # "the cat sat" against "the cat ran off": common sequence 2, P 2/4, R 2/3, F1 4/7
    assert verbatim_memorisation(["the cat sat"], ["the cat ran off"]).value == pytest.approx(4 / 7)
    assert knowledge_memorisation(["Paris", "Bern"], ["Paris", ""]).value == 0.5


def test_abilities_are_compared_task_by_task() -> None:
    assert ability_delta([0.5, 0.7], [0.4, 0.7]) == pytest.approx(-0.05)
    with pytest.raises(InvalidRequest, match="after: has 1 tasks"):
        ability_delta([0.5, 0.7], [0.4])
