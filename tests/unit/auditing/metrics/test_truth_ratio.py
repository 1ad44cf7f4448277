"""The truth ratio and the probabilities it is made of, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from expunge.auditing.metrics.probability import option_probability, probability
from expunge.auditing.metrics.truth_ratio import (
    PerturbedMean,
    Side,
    log_truth_ratio,
    truth_ratio,
    truth_scores,
)
from expunge.errors import InvalidRequest

LOSSES = -np.log([[0.1, 0.4]])  # wrong answers of probability .1 and .4
RIGHT = -np.log([0.5])


def test_the_means_of_wrong_answers_differ() -> None:
    assert np.exp(log_truth_ratio(RIGHT, LOSSES, PerturbedMean.ARITHMETIC)) == pytest.approx(0.25 / 0.5)
    assert np.exp(log_truth_ratio(RIGHT, LOSSES, PerturbedMean.GEOMETRIC)) == pytest.approx(0.2 / 0.5)


@pytest.mark.parametrize("mean", list(PerturbedMean))
def test_an_item_may_have_fewer_wrong_answers(mean: PerturbedMean) -> None:
    ragged = np.array([[0.7, np.nan], [0.7, 0.2]])
    alone = log_truth_ratio([0.3], [[0.7]], mean)
    assert log_truth_ratio([0.3, 0.3], ragged, mean)[0] == pytest.approx(alone[0])


def test_forgotten_facts_score_one_where_nothing_is_likelier() -> None:
    assert truth_scores(np.log([0.5, 1.0, 4.0]), Side.FORGET) == pytest.approx([0.5, 1.0, 0.25])


def test_kept_facts_score_by_how_much_likelier_the_truth_is() -> None:
    assert truth_scores(np.log([0.25, 1.0, 4.0]), Side.RETAIN) == pytest.approx([0.75, 0.0, 0.0])


@pytest.mark.parametrize("mean", list(PerturbedMean))
def test_answers_too_unlikely_for_a_float_keep_their_ratio(mean: PerturbedMean) -> None:
    logs = log_truth_ratio([900.0, 5000.0], [[900.0, 900.0], [10.0, 10.0]], mean)
    assert truth_scores(logs, Side.FORGET) == pytest.approx([1.0, 0.0])
    assert truth_scores(logs, Side.RETAIN) == pytest.approx([0.0, 0.0])


def test_the_report_names_mean_and_side() -> None:
    found = truth_ratio(np.log([0.5, 1.0]), Side.FORGET, PerturbedMean.ARITHMETIC)
    assert found.value == pytest.approx(0.75)
    assert found.definition == "truth_ratio@1(mean=arithmetic,side=forget,eos=true)"
    with pytest.raises(InvalidRequest, match="truth_ratio"):
        truth_ratio([], Side.FORGET, PerturbedMean.ARITHMETIC)


def test_probability_is_normalised_over_the_options() -> None:
    assert probability([0.0, np.log(4)]) == pytest.approx([1.0, 0.25])
    likely = option_probability(-np.log([0.2, 0.3]), -np.log([[0.3, 0.5], [0.1, np.nan]]))
    assert likely == pytest.approx([0.2, 0.75])
    assert option_probability([2000.0], [[2000.0]]) == pytest.approx([0.5])
