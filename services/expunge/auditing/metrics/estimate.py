"""One figure over a set of items, with its 95 % interval and the definition it follows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from expunge.auditing.intervals import Share
from expunge.auditing.metrics.definitions import Definition
from expunge.errors import InvalidRequest

RESAMPLES = 2000
Floats = NDArray[np.float64]
Statistic = Callable[..., Any]  # arrays [..., n] and `axis` → the statistic along it


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval.

    Attributes:
        value: the figure.
        lower, upper: the interval; None where a single item leaves it unknown.
        n: items behind it.
        definition: id of the definition (`Definition.id`).
    """

    value: float
    lower: float | None
    upper: float | None
    n: int
    definition: str

    @classmethod
    def of_share(cls, values: ArrayLike, what: Definition) -> Estimate:
        """The mean of `values` [n], each in [0, 1], with Wilson's interval.

        Raises:
            InvalidRequest: no values, or one that is no number.
        """
        items = checked(values, what.name)
        share = Share.of(items.tolist())
        lower, upper = share.interval
        return cls(share.rate, lower, upper, share.n, what.id)

    @classmethod
    def of_mean(cls, values: ArrayLike, what: Definition, seed: int = 0) -> Estimate:
        """The mean of `values` [n] of any size, with its bootstrap interval.

        Raises:
            InvalidRequest: no values, or one that is no number.
        """
        items = checked(values, what.name)
        lower, upper = bootstrap(np.mean, (items,), seed)
        return cls(float(items.mean()), lower, upper, items.size, what.id)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Estimate:
        """The inverse of `to_dict`."""
        return cls(**data)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "value": self.value,
            "lower": self.lower,
            "upper": self.upper,
            "n": self.n,
            "definition": self.definition,
        }


def bootstrap(
    statistic: Statistic, samples: Sequence[Floats], seed: int
) -> tuple[float | None, float | None]:
    """The percentile bootstrap's 95 % interval (Efron, Annals of Statistics 7, 1979).

    Each sample [n_i] is drawn from anew with replacement, 2,000 times, independently of the others.

    Returns:
        its ends; None, None where a sample has a single item, which no drawing can vary.
    """
    if any(sample.size < 2 for sample in samples):
        return None, None
    drawn = stats.bootstrap(
        tuple(samples),
        statistic,
        n_resamples=RESAMPLES,
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)


def checked(values: ArrayLike, what: str) -> Floats:
    """`values` as [n] floats.

    Raises:
        InvalidRequest: there are none, or one is no number.
    """
    items = np.asarray(values, dtype=np.float64)
    if not items.size:
        raise InvalidRequest.of(what, "needs at least one item")
    if np.isnan(items).any():
        raise InvalidRequest.of(what, f"item {int(np.flatnonzero(np.isnan(items.ravel()))[0])} is no number")
    return items
