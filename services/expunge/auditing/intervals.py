"""Shares with their uncertainty: Wilson's 95 % score interval."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_Z = 1.959963984540054  # 97.5 % quantile of the standard normal distribution


def wilson(hits: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share (E. B. Wilson, JASA 22, 1927).

    centre = (p + z²/2n) / (1 + z²/n), half = z/(1 + z²/n) · √(p(1 − p)/n + z²/4n²)

    `hits` may be fractional: for the mean of values in [0, 1] the interval is conservative, since no such
    variable varies more than a Bernoulli one of the same mean.

    Raises:
        ValueError: hits outside [0, n].
    """
    if n == 0:
        return 0.0, 1.0
    if not 0 <= hits <= n:
        raise ValueError(f"{hits} hits of {n} is no share")
    p = hits / n
    scale = 1 + _Z * _Z / n
    centre = (p + _Z * _Z / (2 * n)) / scale
    half = _Z / scale * math.sqrt(p * (1 - p) / n + _Z * _Z / (4 * n * n))
    lower = 0.0 if hits == 0 else max(0.0, centre - half)
    upper = 1.0 if hits == n else min(1.0, centre + half)
    return lower, upper


@dataclass(frozen=True)
class Share:
    """`hits` of `n`, or the sum of n values in [0, 1]."""

    hits: float
    n: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Share:
        """The share of a series of booleans or of values in [0, 1]."""
        series = [float(value) for value in values]
        return cls(math.fsum(series), len(series))

    @property
    def rate(self) -> float:
        """hits / n; 0 where nothing was asked."""
        return self.hits / self.n if self.n else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson 95 %; [0, 1] where nothing was asked."""
        return wilson(self.hits, self.n)

    @property
    def upper(self) -> float:
        return self.interval[1]

    def to_dict(self) -> dict[str, Any]:
        lower, upper = self.interval
        return {"hits": self.hits, "n": self.n, "rate": self.rate, "lower": lower, "upper": upper}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Share:
        return cls(float(data["hits"]), int(data["n"]))
