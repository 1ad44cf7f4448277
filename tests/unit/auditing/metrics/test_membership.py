"""Membership scores worked by hand; AUC and TPR against drawings of the same."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from expunge.auditing.metrics.definitions import definition
from expunge.auditing.metrics.membership import (
    _auc,
    _tpr,
    loss_score,
    membership_auc,
    membership_tpr,
    min_k_plus_plus_score,
    min_k_score,
    recall_scores,
    zlib_score,
)
from expunge.errors import InvalidRequest

LOGPROBS = [-4.0, -1.0, -3.0, 0.0, -2.0]
LOSS = definition("loss")
scores = st.lists(st.integers(0, 6).map(float), min_size=2, max_size=12)


def test_loss_and_zlib() -> None:
    text = "Ångström 東京 🙂"
    assert loss_score(LOGPROBS) == -2.0
    assert zlib_score(LOGPROBS, text) == -2.0 / len(zlib.compress(text.encode()))


def test_min_k_is_the_mean_of_the_lowest() -> None:
    assert min_k_score(LOGPROBS, 0.4) == -3.5  # two of five
    assert min_k_score(LOGPROBS, 0.59) == -3.5  # never more than the share
    assert min_k_score(LOGPROBS, 0.1) == -4.0  # at least one
    assert min_k_score(LOGPROBS, 1.0) == loss_score(LOGPROBS)


def test_min_k_plus_plus_standardises_each_position() -> None:
    # z = (−4+2)/2, (−1+2)/.5, (−3+1)/1, 0/1, (−2+1)/4 = −1, 2, −2, 0, −.25
    means, deviations = [-2.0, -2.0, -1.0, 0.0, -1.0], [2.0, 0.5, 1.0, 1.0, 4.0]
    assert min_k_plus_plus_score(LOGPROBS, means, deviations, 0.4) == -1.5
    sure = min_k_plus_plus_score([0.0], [0.0], [0.0], 0.4)
    assert sure == 0.0  # no division by a deviation of nothing


@pytest.mark.parametrize("k", [0.0, 1.5])
def test_a_share_that_is_none_is_refused(k: float) -> None:
    with pytest.raises(InvalidRequest, match="k: must be"):
        min_k_score(LOGPROBS, k)


def test_recall_compares_with_a_prefix_of_non_members() -> None:
    assert recall_scores([-3.0, -2.0], [-1.0, -2.0]) == pytest.approx([3.0, 1.0])
    with pytest.raises(InvalidRequest, match=r"plain\[1\]"):
        recall_scores([-3.0, -2.0], [-1.0, 0.0])


def test_auc_counts_pairs_and_names_its_score() -> None:
    found = membership_auc([3.0, 1.0], [0.0, 1.0, 2.0], LOSS)
    assert found.value == pytest.approx(4.5 / 6)  # 3 beats three; 1 beats one and ties one
    assert found.n == 5
    assert found.definition == "membership_auc@1(score=loss@1(eos=true))"
    assert membership_auc([0.0], [1.0], LOSS).value == 0.0  # as telling as 1


def test_the_interval_holds_half_where_there_is_nothing_to_tell() -> None:
    rng = np.random.default_rng(1)
    found = membership_auc(rng.normal(size=40), rng.normal(size=40), LOSS, seed=5)
    assert found.lower is not None
    assert found.upper is not None
    assert found.lower < 0.5 < found.upper
    assert found == membership_auc(*(np.random.default_rng(1).normal(size=(2, 40))), LOSS, seed=5)
    assert membership_auc([1.0], [0.0, 1.0], LOSS).lower is None


def test_tpr_at_a_low_fpr() -> None:
    others = np.arange(10.0)
    assert membership_tpr([8.5, 9.5, 20.0, 1.0], others, LOSS, fpr=0.0).value == 0.5
    assert membership_tpr([8.5, 9.5, 20.0, 1.0], others, LOSS, fpr=0.1).value == 0.75
    assert membership_tpr([5.0, 5.0], [5.0, 5.0], LOSS, fpr=0.4).value == 0.0  # ties can't be told apart
    with pytest.raises(InvalidRequest, match="fpr"):
        membership_tpr([1.0], [0.0], LOSS, fpr=1.0)


@given(members=scores, others=scores, fpr=st.sampled_from([0.0, 0.1, 0.25, 0.5]))
def test_drawings_are_judged_as_the_set_is(members: list[float], others: list[float], fpr: float) -> None:
    known, unknown = np.array(members), np.array(others)
    truth = np.repeat([1, 0], [known.size, unknown.size])
    both = np.concatenate([known, unknown])
    assert _auc(known, unknown, -1) == pytest.approx(roc_auc_score(truth, both))
    wrong, right, _ = roc_curve(truth, both, drop_intermediate=False)
    assert _tpr(known, unknown, fpr, -1) == pytest.approx(right[wrong <= fpr + 1e-12].max())
