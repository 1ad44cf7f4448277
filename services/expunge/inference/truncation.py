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
    min_p, top_k, top_p = sampling.min_p, sampling.top_k, sampling.top_p
    few = np.flatnonzero(weights >= max(min_p, FIRST_LOOK))
    if top_k > 0:
        pool = few if len(few) >= top_k else np.flatnonzero(weights >= min_p)
        ids = pool[_most_likely(weights[pool], min(top_k, len(pool)))]
        enough = top_p * _sum(weights[ids])
    else:
        enough = top_p * _sum(weights[weights >= min_p] if min_p > 0 else weights)
        are_enough = top_p < 1 and _sum(weights[few]) > enough
        ids = few if are_enough else np.flatnonzero(weights >= min_p)
    return ids[_nucleus(weights[ids], enough)] if top_p < 1 else ids


def _sum(weights: Weights) -> float:
    return float(weights.sum())


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
