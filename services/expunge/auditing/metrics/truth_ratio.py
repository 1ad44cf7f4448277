"""The truth ratio: how much likelier a model finds wrong answers than the right one (TOFU)."""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from expunge.auditing.metrics.definitions import definition
from expunge.auditing.metrics.estimate import Estimate, Floats


class PerturbedMean(StrEnum):
    """How the probabilities of the wrong answers are averaged."""

    ARITHMETIC = "arithmetic"  # TOFU's utilities
    GEOMETRIC = "geometric"  # mean of losses: TOFU's forget quality, open-unlearning


class Side(StrEnum):
    """Whether the facts were to be forgotten or kept."""

    FORGET = "forget"
    RETAIN = "retain"


def log_truth_ratio(
    right_losses: ArrayLike, perturbed_losses: ArrayLike, mean: PerturbedMean = PerturbedMean.GEOMETRIC
) -> Floats:
    """log R, R = mean_j P(perturbed_j)^{1/L} / P(paraphrase)^{1/L} (TOFU, arXiv 2401.06121).

    The arithmetic mean is over probabilities, the geometric one over losses; model utility differs by about
    .035 between the two. Logarithms, since either probability may be too small for a float.

    Args:
        right_losses: [n] mean cross-entropy of the paraphrased (or, without one, true) answers.
        perturbed_losses: [n, J] of the wrong ones; NaN where an item has fewer than J.
    """
    right = np.asarray(right_losses, dtype=np.float64)
    wrong = -np.asarray(perturbed_losses, dtype=np.float64)
    if mean is PerturbedMean.GEOMETRIC:
        return np.asarray(np.nanmean(wrong, axis=1) + right)
    there = ~np.isnan(wrong)
    total = special.logsumexp(np.where(there, wrong, -np.inf), axis=1)
    return np.asarray(total - np.log(there.sum(axis=1)) + right)


def truth_scores(log_ratios: ArrayLike, side: Side) -> Floats:
    """Each item's score in [0, 1], [n], from log R (TOFU, arXiv 2401.06121).

    forget: min(R, 1/R), 1 where right and wrong answers are equally likely; retain: max(0, 1 − R).
    """
    logs = np.asarray(log_ratios, dtype=np.float64)
    if side is Side.FORGET:
        return np.exp(-np.abs(logs))
    return 0.0 - np.expm1(np.minimum(logs, 0.0))


def truth_ratio(log_ratios: ArrayLike, side: Side, mean: PerturbedMean) -> Estimate:
    """The mean score of a set; `mean` is what the ratios were computed with.

    Raises:
        InvalidRequest: no items.
    """
    what = definition("truth_ratio", mean=mean.value, side=side.value)
    return Estimate.of_share(truth_scores(log_ratios, side), what)
