"""How likely a model finds an answer, from teacher-forced log-probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from expunge.auditing.metrics.estimate import Floats


def probability(losses: ArrayLike) -> Floats:
    """P(a|q)^{1/L} = exp(−CE) of each answer (TOFU, arXiv 2401.06121).

    Args:
        losses: [n] mean cross-entropy over each answer's tokens, EOS included, in nats.
    """
    return np.exp(-np.asarray(losses, dtype=np.float64))


def option_probability(true_losses: ArrayLike, wrong_losses: ArrayLike) -> Floats:
    """P(true) / (P(true) + Σ_j P(wrong_j)), each P(a|q)^{1/L} (TOFU, arXiv 2401.06121).

    Computed on logarithms, so that answers too unlikely for a float keep their order.

    Args:
        true_losses: [n] mean cross-entropy of the true answers.
        wrong_losses: [n, J] of the wrong ones; NaN where an item has fewer than J.
    """
    true = -np.asarray(true_losses, dtype=np.float64)
    wrong = -np.asarray(wrong_losses, dtype=np.float64)
    every = np.concatenate([true[:, None], np.where(np.isnan(wrong), -np.inf, wrong)], axis=1)
    return np.asarray(np.exp(true - special.logsumexp(every, axis=1)))
