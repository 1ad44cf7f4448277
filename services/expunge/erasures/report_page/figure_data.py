"""From a stored report to what each figure shows; None where the report has no such data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from sklearn import metrics

from expunge.auditing.intervals import Share
from expunge.auditing.metrics.definitions import definition
from expunge.auditing.metrics.estimate import Estimate
from expunge.auditing.metrics.membership import membership_auc
from expunge.auditing.series import AnswerSeries, LayerSeries, Series

MOST_ROWS = 24  # facts of which single values are drawn
HISTOGRAM_BINS = 12

Report = Mapping[str, Any]


@dataclass(frozen=True)
class MemoBars:
    """MEMO of true answers, the best remembered first; `after` None: not measured. `facts` counts all."""

    fact_ids: tuple[str, ...]
    before: tuple[float, ...]
    after: tuple[float | None, ...]
    facts: int

    @property
    def has_after(self) -> bool:
        return any(value is not None for value in self.after)


@dataclass(frozen=True)
class PrefixCurve:
    """Leaks by the part of the answer that was given, in per cent; a place with n = 0 was not asked."""

    given: tuple[float, ...]
    erased: tuple[Share, ...]
    control: tuple[Share, ...]


@dataclass(frozen=True)
class Strengths:
    """Extraction strength of each answer, and the highest mean that the gate allows."""

    erased: tuple[float, ...]
    control: tuple[float, ...]
    before: tuple[float, ...]
    allowed: float | None


@dataclass(frozen=True)
class Histogram:
    """Shares of answers by probability a token: `edges` are exponents of ten; one share between each two."""

    edges: tuple[float, ...]
    groups: Mapping[str, tuple[float, ...]]
    counts: Mapping[str, int]


@dataclass(frozen=True)
class Roc:
    """One membership score: false and true positive rates, and the area with its interval."""

    score: str
    wrong: tuple[float, ...]
    right: tuple[float, ...]
    area: Estimate


@dataclass(frozen=True)
class LossCurves:
    """Loss of every step of each training, oldest first: name of the term → values."""

    runs: tuple[Mapping[str, tuple[float, ...]], ...]


@dataclass(frozen=True)
class Timings:
    """Seconds spent in each state, in order; a state that was entered again appears again."""

    states: tuple[str, ...]
    starts: tuple[float, ...]
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class FigureData:
    """Everything that a report's figures show, each computed when it is asked for."""

    report: Report

    @cached_property
    def audit(self) -> Report | None:
        """The audit that decided: the latest of the version that came out, else the latest."""
        audits: Sequence[Report] = self.report["audits"]
        own = [audit for audit in audits if audit["version"] == self.report["versions"]["after"]]
        chosen = own or audits
        return chosen[-1] if chosen else None

    @cached_property
    def series(self) -> Series | None:
        stored = self.audit and self.audit.get("series")
        return Series.from_dict(stored) if stored else None

    @cached_property
    def memo(self) -> MemoBars | None:
        before: Mapping[str, float] = self.report["memo"].get("facts") or {}
        if not before:
            return None
        after = self.series.memo if self.series else {}
        shown = sorted(before, key=lambda fact: -before[fact])[:MOST_ROWS]
        values = tuple(float(before[fact]) for fact in shown)
        return MemoBars(tuple(shown), values, tuple(map(after.get, shown)), len(before))

    @cached_property
    def prefixes(self) -> PrefixCurve | None:
        series = self.series
        if series is None or not any(share.n for share in series.prefix_erased):
            return None
        parts = len(series.prefix_erased)
        given = tuple(100 * (part + 0.5) / parts for part in range(parts))
        return PrefixCurve(given, series.prefix_erased, series.prefix_control)

    @cached_property
    def strengths(self) -> Strengths | None:
        series = self.series
        if series is None or not series.erased.es:
            return None
        gates = self.audit["gates"] if self.audit else ()
        allowed = next((float(gate["threshold"]) for gate in gates if gate["name"] == "es"), None)
        before = series.baseline.es if series.baseline else ()
        return Strengths(series.erased.es, series.control.es, before, allowed)

    @cached_property
    def probabilities(self) -> Histogram | None:
        series = self.series
        if series is None or not series.erased.loss:
            return None
        groups = {"erased": series.erased, "control": series.control, "before": series.baseline}
        return _histogram({name: group for name, group in groups.items() if group and group.loss})

    @cached_property
    def membership(self) -> tuple[Roc, ...]:
        """LOSS and Min-K%: erased facts as members, controls as non-members."""
        series = self.series
        if series is None or not series.erased.loss or not series.control.loss:
            return ()
        return tuple(
            _roc(score, getattr(series.erased, score), getattr(series.control, score))
            for score in ("loss", "min_k")
        )

    @cached_property
    def layers(self) -> LayerSeries | None:
        return self.series.layers if self.series else None

    @cached_property
    def losses(self) -> LossCurves | None:
        runs = [run["curves"] for run in self.report["training"].get("runs") or () if run["curves"]]
        return LossCurves(tuple(map(_merged, runs))) if runs else None

    @cached_property
    def timings(self) -> Timings | None:
        timeline: Sequence[Report] = self.report["timeline"]
        if len(timeline) < 2:
            return None
        starts = tuple(float(entry["seconds"]) for entry in timeline)
        seconds = tuple(end - start for start, end in pairwise(starts))
        states = tuple(entry["state"] for entry in timeline[:-1])
        return Timings(states, starts[:-1], seconds)


def _histogram(groups: Mapping[str, AnswerSeries]) -> Histogram:
    exponents = {name: np.log10(group.probability) for name, group in groups.items()}
    lowest = min(float(values.min()) for values in exponents.values())
    edges = np.linspace(min(-1.0, math.floor(lowest)), 0.0, HISTOGRAM_BINS + 1)
    shares = {
        name: tuple((np.histogram(np.minimum(values, 0.0), edges)[0] / values.size).tolist())
        for name, values in exponents.items()
    }
    return Histogram(tuple(edges.tolist()), shares, {name: one.size for name, one in exponents.items()})


def _merged(run: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, ...]]:
    """A training's terms by name, their sum "loss" first; numbered ones (keep0, keep1) as one."""
    merged: dict[str, tuple[float, ...]] = {}
    for name in sorted(run, key=lambda name: (name != "loss", name)):
        stem = name.rstrip("0123456789") or name
        values = tuple(map(float, run[name]))
        merged[stem] = tuple(map(sum, zip(merged[stem], values, strict=True))) if stem in merged else values
    return merged


def _roc(score: str, members: Sequence[float], others: Sequence[float]) -> Roc:
    truth = [True] * len(members) + [False] * len(others)
    wrong, right, _ = metrics.roc_curve(truth, [*members, *others])
    area = membership_auc(members, others, definition(score))
    return Roc(score, tuple(wrong.tolist()), tuple(right.tolist()), area)
