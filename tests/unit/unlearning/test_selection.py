"""MEOW's selection of inverted facts by MEMO."""

import pytest

from expunge.errors import InvalidRequest
from expunge.unlearning.selection import Metric, select

TEXTS = ["a", "b", "c", "d"]
MEMO = [0.2, 0.9, 0.9, 0.1]


def test_largest_takes_the_best_remembered_and_keeps_the_order_of_ties() -> None:
    assert select(TEXTS, MEMO, Metric.LARGEST, 3) == ["b", "c", "a"]


def test_smallest_takes_the_least_remembered() -> None:
    assert select(TEXTS, MEMO, Metric.SMALLEST, 2) == ["d", "a"]


def test_random_depends_on_the_seed_alone() -> None:
    chosen = {tuple(select(TEXTS, MEMO, Metric.RANDOM, 2, seed)) for seed in range(20)}
    assert len(chosen) > 1
    assert select(TEXTS, MEMO, Metric.RANDOM, 2, 5) == select(TEXTS, MEMO, Metric.RANDOM, 2, 5)


def test_fewer_candidates_than_wanted_are_all_kept() -> None:
    assert select(["a"], [0.5], Metric.LARGEST, 3) == ["a"]


@pytest.mark.parametrize(("memo", "top_k"), [([0.1], 3), (MEMO, 0)])
def test_scores_must_match_and_something_must_be_kept(memo: list[float], top_k: int) -> None:
    with pytest.raises(InvalidRequest):
        select(TEXTS, memo, Metric.LARGEST, top_k)
