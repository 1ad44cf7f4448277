"""Which tokens may be drawn at all: min-p, top-k and the nucleus."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from expunge.inference.request import Sampling

Weights = NDArray[np.float32]
Ids = NDArray[np.int64]

FIRST_LOOK = 1e-5  # few tokens of a vocabulary weigh as much, and mostly they are enough


def is_asked_for(sampling: Sampling) -> bool:
    """Whether `sampling` leaves out any token."""
    return sampling.min_p > 0 or sampling.top_k > 0 or sampling.top_p < 1


def kept(weights: Weights, sampling: Sampling) -> Ids:
    """The tokens that remain, after min-p (arXiv 2407.01082), top-k and top-p in this order, which is vLLM's.

    Where tokens weigh the same and not all of them can stay, those of lower ids do.

    Args:
        weights: probabilities as shares of the likeliest token's, [vocabulary]; the highest is 1.

    Returns:
        token ids in rising order; at least one.
    """
    ids = np.flatnonzero(weights >= max(sampling.min_p, FIRST_LOOK))
    are_all = sampling.min_p >= FIRST_LOOK
    if not are_all and not _is_enough(weights, ids, sampling):
        ids, are_all = np.flatnonzero(weights >= sampling.min_p), True
    if 0 < sampling.top_k <= len(ids):
        ids, are_all = ids[_most_likely(weights[ids], sampling.top_k)], True
    if sampling.top_p < 1:
        found = weights[ids]
        total = _sum(found) if are_all else _sum(weights, sampling.min_p)
        ids = ids[_nucleus(found, sampling.top_p * total)]
    return ids


def _is_enough(weights: Weights, ids: Ids, sampling: Sampling) -> bool:
    """Whether none but `ids`, the most likely tokens, can remain."""
    if 0 < sampling.top_k <= len(ids):
        return True
    if sampling.top_k > 0 or sampling.top_p >= 1:
        return False
    return _sum(weights[ids]) > sampling.top_p * _sum(weights, sampling.min_p)


def _sum(weights: Weights, least: float = 0.0) -> float:
    """Of all that weigh at least `least`."""
    counted = weights[weights >= least] if least > 0 else weights
    return float(counted.sum(dtype=np.float64))


def _most_likely(weights: Weights, count: int) -> Ids:
    """Places of the `count` highest."""
    least = np.partition(weights, len(weights) - count)[len(weights) - count]
    return _down_to(weights, least, count)


def _nucleus(weights: Weights, enough: float) -> Ids:
    """Places of the smallest set whose sum reaches `enough`, at most the sum of all (arXiv 1904.09751).

    What is below an n-th of the surplus adds up to less than that, so the nucleus lies above and the rest
    need not be sorted.
    """
    highest = np.sort(weights[weights >= (_sum(weights) - enough) / len(weights)])[::-1]
    reached = np.cumsum(highest, dtype=np.float64)
    count = min(int(np.searchsorted(reached, enough)) + 1, len(highest))
    return _down_to(weights, highest[count - 1], count)


def _down_to(weights: Weights, least: np.float32, count: int) -> Ids:
    """Places of the `count` highest, of which the last weighs `least`, in rising order."""
    places = np.flatnonzero(weights >= least)
    surplus = len(places) - count
    if surplus <= 0:
        return places
    last = np.flatnonzero(weights[places] == least)[-surplus:]
    return np.delete(places, last)
