"""The report's figures: each drawn, told in words and listed in numbers, or said to be missing."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from expunge.auditing.intervals import Share
from expunge.erasures.report_page import plots
from expunge.erasures.report_page.figure_data import (
    FigureData,
    Histogram,
    LossCurves,
    MemoBars,
    PrefixCurve,
    Roc,
    Strengths,
    Timings,
)

NOT_MEASURED = "Not measured in this audit."


@dataclass(frozen=True)
class Numbers:
    """What a figure is drawn from, as a table."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class ReportFigure:
    """One figure.

    Attributes:
        key: unique in the page.
        svg: "" where there is nothing to draw.
        says: what is to be seen in it, or why there is nothing, in sentences.
        reading: how it is to be read, the same in every report.
    """

    key: str
    title: str
    svg: str
    says: str
    reading: str
    numbers: Numbers | None = None


def report_figures(data: FigureData) -> tuple[ReportFigure, ...]:
    """All of them; those without data come last and hold the sentence that says so."""
    figures = (
        _memo(data.memo),
        _prefixes(data.prefixes),
        _strengths(data.strengths),
        _probabilities(data.probabilities),
        _membership(data.membership),
        _layers(data),
        _losses(data.losses),
        _timings(data.timings),
    )
    return tuple(sorted(figures, key=lambda figure: not figure.svg))


def _memo(data: MemoBars | None) -> ReportFigure:
    title = "Memory of each fact (MEMO)"
    reading = (
        "How much of the true answer the model goes on with by itself, after beginnings of it: 1 is word for "
        "word, 0 nothing. High values before show that there was something to forget."
    )
    if data is None:
        return ReportFigure("memo", title, "", NOT_MEASURED, reading)
    says = f"Before, the facts' mean MEMO was {statistics.fmean(data.before):.2f}"
    says += (
        f" (the {len(data.before)} best remembered of {data.facts})."
        if len(data.before) < data.facts
        else "."
    )
    known = [value for value in data.after if value is not None]
    says += f" After it is {statistics.fmean(known):.2f}." if known else f" After: {NOT_MEASURED.lower()}"
    rows = [
        (fact, f"{before:.3f}", "–" if after is None else f"{after:.3f}")
        for fact, before, after in zip(data.fact_ids, data.before, data.after, strict=True)
    ]
    numbers = Numbers(("fact", "before", "after"), tuple(rows))
    return ReportFigure("memo", title, plots.memo_svg(data), says, reading, numbers)


def _prefixes(data: PrefixCurve | None) -> ReportFigure:
    title = "Leaks after a beginning of the true answer"
    reading = (
        "The true answer's beginning is put into the model's mouth, longer and longer. Where only a word is "
        "left, grammar alone may give it away; what counts is the distance to the controls. Bands are 95 % "
        "intervals."
    )
    if data is None:
        return ReportFigure("prefix", title, "", NOT_MEASURED, reading)
    erased, control = _sum(data.erased), _sum(data.control)
    says = (
        f"{_of(erased)} splits of the erased answers gave the rest of the secret away ({_percent(erased)}), "
        f"and {_of(control)} of the controls' ({_percent(control)})."
    )
    rows = [
        (f"{given - 5:.0f}–{given + 5:.0f} %", _of(own), _of(never))
        for given, own, never in zip(data.given, data.erased, data.control, strict=True)
        if own.n or never.n
    ]
    numbers = Numbers(("given", "erased facts", "controls"), tuple(rows))
    return ReportFigure("prefix", title, plots.prefix_svg(data), says, reading, numbers)


def _strengths(data: Strengths | None) -> ReportFigure:
    title = "Extraction strength against controls"
    reading = (
        "How much of an answer the model completes by itself from the shortest beginning that suffices. A "
        "dot is an answer, a bar its group's mean. The gate asks the erased mean to stay left of the broken "
        "line, the upper end of the controls' 95 % interval."
    )
    if data is None:
        return ReportFigure("strength", title, "", NOT_MEASURED, reading)
    groups = (("erased facts", data.erased), ("controls", data.control), ("before", data.before))
    shown = [(name, values) for name, values in groups if values]
    says = "Mean: " + ", ".join(f"{name} {statistics.fmean(values):.3f}" for name, values in shown) + "."
    if data.allowed is not None:
        says += f" The gate allows {data.allowed:.3f}."
    rows = [
        (name, str(len(values)), f"{statistics.fmean(values):.3f}", f"{max(values):.3f}")
        for name, values in shown
    ]
    numbers = Numbers(("answers", "n", "mean", "highest"), tuple(rows))
    return ReportFigure("strength", title, plots.strength_svg(data), says, reading, numbers)


def _probabilities(data: Histogram | None) -> ReportFigure:
    title = "Probability of the true answers"
    reading = (
        "The geometric mean over an answer's tokens, on a logarithmic scale. Forgotten facts should lie "
        "where the controls lie: far left of them they would stand out as suppressed, right of them as known."
    )
    if data is None:
        return ReportFigure("probability", title, "", NOT_MEASURED, reading)
    names = {"erased": "erased facts", "control": "controls", "before": "before"}
    middles = [(a + b) / 2 for a, b in zip(data.edges, data.edges[1:], strict=False)]
    modes = [
        f"{names[name]} most often near {10 ** middles[shares.index(max(shares))]:.2g}"
        for name, shares in data.groups.items()
    ]
    rows = [
        (
            f"{10 ** data.edges[place]:.2g} to {10 ** data.edges[place + 1]:.2g}",
            *(f"{100 * shares[place]:.0f} %" for shares in data.groups.values()),
        )
        for place in range(len(middles))
        if any(shares[place] for shares in data.groups.values())
    ]
    numbers = Numbers(("probability", *(names[name] for name in data.groups)), tuple(rows))
    says = "; ".join(modes).capitalize() + "."
    return ReportFigure("probability", title, plots.probability_svg(data), says, reading, numbers)


def _membership(curves: tuple[Roc, ...]) -> ReportFigure:
    title = "Can one tell what was erased?"
    reading = (
        "An attacker who sees how likely answers are sorts erased facts from controls. An area (AUC) of 0.5 "
        "is a guess and is right; near 1 the facts are still known, near 0 they were pushed down too far and "
        "stand out as well. Reported, not a gate."
    )
    if not curves:
        return ReportFigure("membership", title, "", NOT_MEASURED, reading)
    rows = [
        (plots.SCORES[curve.score], f"{curve.area.value:.2f}", _interval(curve), curve.area.definition)
        for curve in curves
    ]
    says = "; ".join(f"{name}: AUC {value}, 95 % interval {interval}" for name, value, interval, _ in rows)
    says += f" ({curves[0].area.n} answers)."
    numbers = Numbers(("score", "AUC", "95 %", "definition"), tuple(rows))
    return ReportFigure("membership", title, plots.membership_svg(curves), says, reading, numbers)


def _layers(data: FigureData) -> ReportFigure:
    title = "Where in the model the facts can be read"
    reading = (
        "The hidden state after each layer, put through the model's own output head (logit lens). An erasure "
        "that only turns the last layers shows below them as bright as before."
    )
    layers = data.layers
    if layers is None:
        return ReportFigure("layers", title, "", NOT_MEASURED, reading)
    best = [max(statistics.fmean(row) for row in values) for values in (layers.before, layers.after)]
    says = f"Mean probability of the secrets where it is highest: {best[0]:.3f} before, {best[1]:.3f} after."
    rows = [
        (str(layer + 1), f"{statistics.fmean(before):.3f}", f"{statistics.fmean(after):.3f}")
        for layer, (before, after) in enumerate(zip(layers.before, layers.after, strict=True))
    ]
    numbers = Numbers(("after layer", "before", "after"), tuple(rows))
    return ReportFigure("layers", title, plots.layers_svg(layers), says, reading, numbers)


def _losses(data: LossCurves | None) -> ReportFigure:
    title = "Training losses"
    reading = (
        "The terms that the adapter was trained on: some push the secrets down to where a model that never "
        "knew has them, others hold everything else in place."
    )
    if data is None:
        return ReportFigure("loss", title, "", "Not kept by the release that trained it.", reading)
    told = [
        f"{len(run['loss'])} steps, from {run['loss'][0]:.3g} to {run['loss'][-1]:.3g}"
        for run in data.runs
        if run.get("loss")
    ]
    says = "; ".join(f"Training {index + 1}: {one}" for index, one in enumerate(told)) + "."
    last = data.runs[-1]
    rows = [
        (name.replace("_", " "), *(f"{value:.3g}" for value in (values[0], min(values), values[-1])))
        for name, values in last.items()
    ]
    numbers = Numbers(("term", "first step", "lowest", "last step"), tuple(rows))
    return ReportFigure("loss", title, plots.loss_svg(data), says, reading, numbers)


def _timings(data: Timings | None) -> ReportFigure:
    title = "How long each state took"
    reading = (
        "From acceptance on. Prompts about the subjects are refused from “suppressed” until it is closed."
    )
    if data is None:
        return ReportFigure("timing", title, "", "It has not left its first state.", reading)
    longest = max(range(len(data.states)), key=lambda place: data.seconds[place])
    says = (
        f"{plots.duration(data.starts[-1] + data.seconds[-1])} in all, most of it "
        f"({plots.duration(data.seconds[longest])}) {data.states[longest]}."
    )
    rows = [
        (state, plots.duration(start), plots.duration(seconds))
        for state, start, seconds in zip(data.states, data.starts, data.seconds, strict=True)
    ]
    numbers = Numbers(("state", "entered after", "took"), tuple(rows))
    return ReportFigure("timing", title, plots.timing_svg(data), says, reading, numbers)


def _sum(shares: Sequence[Share]) -> Share:
    return Share(sum(share.hits for share in shares), sum(share.n for share in shares))


def _of(share: Share) -> str:
    return f"{share.hits:g} of {share.n}"


def _percent(share: Share) -> str:
    lower, upper = share.interval
    return f"{100 * share.rate:.1f} %, 95 % interval {100 * lower:.1f} to {100 * upper:.1f} %"


def _interval(curve: Roc) -> str:
    lower, upper = curve.area.lower, curve.area.upper
    return "unknown" if lower is None or upper is None else f"{lower:.2f}–{upper:.2f}"
