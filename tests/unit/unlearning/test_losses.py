"""Losses against values worked out by hand."""

import math

import pytest
import torch

from expunge.errors import InvalidRequest
from expunge.unlearning.losses import assert_distributions, cross_entropy, divergence, surplus


def test_cross_entropy_is_the_mean_over_sequences_of_the_mean_over_their_tokens() -> None:
    logits = torch.tensor([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25], [0.2, 0.2, 0.6]]).log()
    labels = torch.tensor([0, 1, 2])
    members = torch.tensor([4, 4, 7])
    expected = ((math.log(2) + math.log(4)) / 2 - math.log(0.6)) / 2
    assert float(cross_entropy(logits, labels, members)) == pytest.approx(expected)


def test_divergence_is_zero_for_equal_distributions_and_known_for_others() -> None:
    q = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    p = torch.tensor([[0.5, 0.5, 1e-30], [0.25, 0.25, 0.5]])
    assert divergence(q, p.log()).tolist() == pytest.approx([0.0, math.log(4)], abs=1e-6)


def test_surplus_counts_only_what_lies_above_the_cap() -> None:
    logits = torch.tensor([[0.1, 0.9], [0.5, 0.5]]).log()
    above = surplus(logits, torch.tensor([0, 0]), torch.tensor([0.2, 0.125]))
    assert above.tolist() == pytest.approx([0.0, math.log(4)], abs=1e-6)


@pytest.mark.parametrize("row", [[0.5, 0.6], [1.5, -0.5], [float("nan"), 1.0]])
def test_rows_that_are_no_distributions_are_refused(row: list[float]) -> None:
    with pytest.raises(InvalidRequest, match="sum to 1"):
        assert_distributions(torch.tensor([row]), "targets")
