"""TOFU's two figures of a whole model: forget quality and model utility."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from expunge.auditing.metrics.definitions import definition
from expunge.auditing.metrics.estimate import RESAMPLES, Estimate, Floats, checked
from expunge.auditing.metrics.truth_ratio import PerturbedMean
from expunge.errors import InvalidRequest


@dataclass(frozen=True)
class ForgetQuality:
    """How alike the truth ratios of an unlearned and a retain-only model are.

    Attributes:
        p: of the two-sample Kolmogorov-Smirnov test; near 1 where nothing tells the models apart.
        distance: largest distance between the two distribution functions.
        significant_from: the smallest distance that this many items can show to be real at 5 %. With 4, 10,
            20 and 40 facts it is 1, .70, .45 and .33, so that for one request p says nothing.
        n: items of the unlearned model.
        definition: id.
    """

    p: float
    distance: float
    significant_from: float
    n: int
    definition: str


def forget_quality(
    unlearned: ArrayLike, retained: ArrayLike, mean: PerturbedMean = PerturbedMean.GEOMETRIC
) -> ForgetQuality:
    """p of `ks_2samp` between the per-item truth ratios of both models (TOFU, arXiv 2401.06121).

    Args:
        unlearned, retained: R or log R of each forget item, [n] and [m]; the test knows order alone.
        mean: what the ratios were computed with.

    Raises:
        InvalidRequest: no items.
    """
    ours, theirs = checked(unlearned, "unlearned"), checked(retained, "retained")
    found = stats.ks_2samp(ours, theirs)
    return ForgetQuality(
        float(found.pvalue),
        float(found.statistic),
        smallest_significant_distance(ours.size),
        ours.size,
        definition("forget_quality", mean=mean.value).id,
    )


def smallest_significant_distance(n: int) -> float:
    """The smallest distance of two samples of n items whose two-sided p is below 5 %; ∞ where none is."""
    ranks = np.arange(n, dtype=np.float64)
    low, high = 1, n + 1  # the p falls as the shift grows
    while low < high:
        shift = (low + high) // 2
        if stats.ks_2samp(ranks, ranks + shift - 0.5).pvalue < 0.05:
            high = shift
        else:
            low = shift + 1
    return low / n if low <= n else float("inf")


@dataclass(frozen=True, eq=False)
class UtilityItems:
    """Per-item figures in [0, 1] of one of TOFU's three sets, each [n].

    Attributes:
        probability: P(a|q)^{1/L} on retain facts, normalised over the options on the two others.
        rouge: ROUGE-L recall.
        truth: `truth_scores` on the retain side.
    """

    probability: Floats
    rouge: Floats
    truth: Floats


def model_utility(
    sets: Mapping[str, UtilityItems], mean: PerturbedMean = PerturbedMean.GEOMETRIC, seed: int = 0
) -> Estimate:
    """Harmonic mean of {probability, ROUGE-L, truth ratio} × {retain, real authors, world facts}.

    Of the nine means; 0 where any of them is (TOFU, arXiv 2401.06121). The interval draws the items of each
    set anew, an item's three figures together.

    Args:
        mean: what the truth ratios were computed with; it moves the figure by about .035.

    Raises:
        InvalidRequest: no sets, or a set whose figures are missing or not of equal number.
    """
    if not sets:
        raise InvalidRequest.of("sets", "is empty; give retain facts, real authors and world facts")
    tables = [_table(name, items) for name, items in sets.items()]
    value = float(stats.hmean(np.concatenate([table.mean(axis=1) for table in tables])))
    rng = np.random.default_rng(seed)
    drawn = np.concatenate([_drawn_means(table, rng) for table in tables])
    lower, upper = np.quantile(stats.hmean(drawn, axis=0), [0.025, 0.975])
    what = definition("model_utility", mean=mean.value)
    return Estimate(value, float(lower), float(upper), sum(table.shape[1] for table in tables), what.id)


def _table(name: str, items: UtilityItems) -> Floats:
    """[3, n]"""
    rows = [
        checked(values, f"{name}.{what}")
        for what, values in (
            ("probability", items.probability),
            ("rouge", items.rouge),
            ("truth", items.truth),
        )
    ]
    if len({row.size for row in rows}) > 1:
        sizes = ", ".join(str(row.size) for row in rows)
        raise InvalidRequest.of(name, f"has {sizes} items; give as many of each figure")
    return np.stack(rows)


def _drawn_means(table: Floats, rng: np.random.Generator) -> Floats:
    """Means of the rows of [3, n] over drawings of the items, [3, drawings]."""
    n = table.shape[1]
    counts = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES)  # [drawings, n]
    return np.asarray(table @ counts.T / n)
