"""What the figures of a report are drawn from: a value for each answer, split or layer, and no text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from expunge.auditing.intervals import Share

PARTS = 10  # of an answer, by how much of it a prefix probe gives


@dataclass(frozen=True)
class AnswerSeries:
    """Teacher-forced figures of a group of answers; place i of each is the same answer.

    Attributes:
        es: extraction strength.
        loss: membership score LOSS, the mean log-probability a token, nats.
        min_k: membership score Min-K%.
    """

    es: tuple[float, ...]
    loss: tuple[float, ...]
    min_k: tuple[float, ...]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> AnswerSeries:
        return cls(*(tuple(map(float, data[key])) for key in ("es", "loss", "min_k")))

    @property
    def probability(self) -> tuple[float, ...]:
        """P(a|q)^{1/L} of each answer."""
        return tuple(math.exp(value) for value in self.loss)


@dataclass(frozen=True)
class LayerSeries:
    """How well each fact can be read after each layer (`attacks.logit_lens`), under two versions.

    Attributes:
        fact_ids: of the columns.
        before, after: geometric mean probability of the secret's tokens, [layers][facts].
    """

    fact_ids: tuple[str, ...]
    before: tuple[tuple[float, ...], ...]
    after: tuple[tuple[float, ...], ...]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LayerSeries:
        layers = [tuple(tuple(map(float, row)) for row in data[key]) for key in ("before", "after")]
        return cls(tuple(data["fact_ids"]), *layers)


@dataclass(frozen=True)
class Series:
    """The series of one audit.

    Attributes:
        prefix_erased, prefix_control: share of splits whose rest was given away, by the part of the answer
            that the probe gave: place i holds those in (i/10, (i + 1)/10] of its characters.
        erased, control: their answers under the audited version.
        baseline: the erased answers under the version before; None where there was none.
        memo: fact id → MEMO of its true answer under the audited version; empty: not measured.
        layers: None: not measured.
    """

    prefix_erased: tuple[Share, ...]
    prefix_control: tuple[Share, ...]
    erased: AnswerSeries
    control: AnswerSeries
    baseline: AnswerSeries | None = None
    memo: Mapping[str, float] = field(default_factory=dict)
    layers: LayerSeries | None = None

    def to_dict(self) -> dict[str, Any]:
        shares = {
            name: [[share.hits, share.n] for share in getattr(self, name)]
            for name in ("prefix_erased", "prefix_control")
        }
        return {**asdict(self), **shares}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Series:
        erased, control = (
            tuple(Share(float(hits), int(n)) for hits, n in data[key])
            for key in ("prefix_erased", "prefix_control")
        )
        baseline, layers = data["baseline"], data["layers"]
        return cls(
            erased,
            control,
            AnswerSeries.from_dict(data["erased"]),
            AnswerSeries.from_dict(data["control"]),
            AnswerSeries.from_dict(baseline) if baseline else None,
            {name: float(value) for name, value in data["memo"].items()},
            LayerSeries.from_dict(layers) if layers else None,
        )
