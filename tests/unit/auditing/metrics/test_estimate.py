"""Figures of a set: intervals, their seeds, and sets that have none."""

from __future__ import annotations

import json

import numpy as np
import pytest

from expunge.auditing.intervals import wilson
from expunge.auditing.metrics.definitions import definition
from expunge.auditing.metrics.estimate import Estimate, bootstrap
from expunge.errors import InvalidRequest

LOSS = definition("loss")


def test_shares_have_wilsons_interval() -> None:
    found = Estimate.of_share([1.0, 0.5, 0.0], LOSS)
    assert (found.lower, found.upper) == wilson(1.5, 3)
    assert (found.value, found.n, found.definition) == (0.5, 3, "loss@1(eos=true)")
    assert json.loads(json.dumps(found.to_dict()))["value"] == 0.5


def test_the_bootstrap_comes_near_the_normal_interval_and_repeats_itself() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, size=400)
    found = Estimate.of_mean(values, LOSS, seed=4)
    half = 1.96 * values.std() / 20
    assert found.lower == pytest.approx(values.mean() - half, abs=0.02)
    assert found.upper == pytest.approx(values.mean() + half, abs=0.02)
    assert found == Estimate.of_mean(values, LOSS, seed=4)
    assert found != Estimate.of_mean(values, LOSS, seed=5)


def test_one_item_has_no_interval_and_equal_items_a_point() -> None:
    assert bootstrap(np.mean, (np.array([1.0]),), 0) == (None, None)
    assert bootstrap(np.mean, (np.array([2.0, 2.0, 2.0]),), 0) == (2.0, 2.0)


def test_an_empty_set_and_what_is_no_number_are_named() -> None:
    with pytest.raises(InvalidRequest, match="loss: needs"):
        Estimate.of_mean([], LOSS)
    with pytest.raises(InvalidRequest, match="loss: item 1 is no number"):
        Estimate.of_share([0.5, float("nan")], LOSS)
