"""One function a figure: from its data to SVG. Each group of facts looks the same in all of them."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from expunge.auditing.intervals import Share
from expunge.auditing.series import LayerSeries
from expunge.erasures.report_page.figure_data import (
    Histogram,
    LossCurves,
    MemoBars,
    PrefixCurve,
    Roc,
    Strengths,
    Timings,
)
from expunge.erasures.report_page.svg import (
    BEFORE,
    CONTROL,
    ERASED,
    FURTHER,
    INK,
    QUIET,
    RULE,
    STROKES,
    WIDTH,
    look,
    to_svg,
)

_NAMES = {"erased": "erased facts", "control": "controls", "before": "before"}
_COLOURS = {"erased": ERASED, "control": CONTROL, "before": BEFORE}
_MARKS = {"erased": "o", "control": "s", "before": "D"}
_ROW = 0.24  # inches a row of a list takes
_LABEL_CHARS = 16


def memo_svg(data: MemoBars) -> str:
    """A row a fact: MEMO before, and after where it was measured."""
    with look():
        figure, axes = _sheet(0.95 + _ROW * len(data.fact_ids))
        rows = np.arange(len(data.fact_ids))
        axes.hlines(rows, 0, data.before, color=RULE, linewidth=1.2)
        axes.plot(data.before, rows, linestyle="", marker="D", markersize=5, color=BEFORE, label="before")
        if data.has_after:
            after = [np.nan if value is None else value for value in data.after]
            axes.plot(after, rows, linestyle="", marker="o", markersize=5.5, color=ERASED, label="after")
            _legend(axes)
        axes.set(xlim=(-0.02, 1.02), ylim=(len(rows) - 0.4, -0.6), xlabel="MEMO (0 to 1)")
        axes.set_yticks(rows, [_label(fact) for fact in data.fact_ids])
        axes.grid(axis="y", visible=False)
        return to_svg(figure, "memo")


def prefix_svg(data: PrefixCurve) -> str:
    """Share of splits that gave the rest away, with Wilson's interval as a band."""
    with look():
        figure, axes = _sheet(2.6)
        for name, shares in (("control", data.control), ("erased", data.erased)):
            _band(axes, data.given, shares, name)
        axes.set(xlim=(0, 100), ylim=(-2, 102))
        axes.set(xlabel="part of the true answer given (%)", ylabel="splits given away (%)")
        _legend(axes)
        return to_svg(figure, "prefix")


def strength_svg(data: Strengths) -> str:
    """A dot an answer, a bar for the mean of its group."""
    with look():
        groups = {"erased": data.erased, "control": data.control, "before": data.before}
        shown = [(name, values) for name, values in groups.items() if values]
        figure, axes = _sheet(0.95 + 0.5 * len(shown))
        drawn = np.random.default_rng(0)  # where in its row a dot lies says nothing
        for row, (name, values) in enumerate(shown):
            places = row + drawn.uniform(-0.2, 0.2, len(values))
            axes.scatter(values, places, s=16, color=_COLOURS[name], marker=_MARKS[name], alpha=0.55, lw=0)
            mean = float(np.mean(values))
            axes.vlines(mean, row - 0.36, row + 0.36, color=_COLOURS[name], linewidth=2.4)
            axes.annotate(f" {mean:.2f}", (mean, row - 0.42), fontsize=8, color=INK, ha="center")
        if data.allowed is not None:
            axes.axvline(data.allowed, color=INK, linewidth=1, linestyle=(0, (3, 3)))
            axes.annotate(
                "gate", (data.allowed, -0.55), (4, 0), textcoords="offset points", fontsize=8, color=INK
            )
        axes.set(xlim=(-0.02, 1.02), ylim=(len(shown) - 0.4, -0.7), xlabel="extraction strength (0 to 1)")
        axes.set_yticks(range(len(shown)), [_NAMES[name] for name, _ in shown])
        axes.grid(axis="y", visible=False)
        return to_svg(figure, "strength")


def probability_svg(data: Histogram) -> str:
    """The groups' histograms as outlines over one another, the erased facts' filled."""
    with look():
        figure, axes = _sheet(2.6)
        for name in sorted(data.groups, key=list(_COLOURS).index, reverse=True):
            share = [100 * value for value in data.groups[name]]
            axes.stairs(share, data.edges, color=_COLOURS[name], fill=name == "erased", alpha=0.25, lw=0)
            stroke = {"erased": "-", "control": "--", "before": ":"}[name]
            axes.stairs(
                share,
                data.edges,
                color=_COLOURS[name],
                linewidth=1.8,
                linestyle=stroke,
                label=f"{_NAMES[name]} ({data.counts[name]})",
            )
        axes.set(xlabel="probability a token of the true answer", ylabel="answers (%)", ylim=(0, None))
        _powers(axes, data.edges[0])
        _legend(axes)
        return to_svg(figure, "probability")


def membership_svg(curves: tuple[Roc, ...]) -> str:
    """ROC of each score beside the diagonal of a guess."""
    with look():
        figure, axes = _sheet(3.1)
        axes.plot((0, 100), (0, 100), color=QUIET, linewidth=1, linestyle=(0, (2, 3)))
        axes.annotate("a guess", (58, 50), fontsize=8, color=QUIET, rotation=0)
        for index, curve in enumerate(curves):
            axes.plot(
                [100 * value for value in curve.wrong],
                [100 * value for value in curve.right],
                color=FURTHER[index],
                linestyle=STROKES[index],
                label=f"{SCORES[curve.score]}: AUC {curve.area.value:.2f}",
            )
        axes.set(xlim=(-2, 102), ylim=(-2, 102))
        axes.set(xlabel="controls taken for members (%)", ylabel="erased facts found (%)")
        _legend(axes)
        return to_svg(figure, "membership")


def layers_svg(data: LayerSeries) -> str:
    """Two maps of layers by facts, one scale."""
    with look():
        figure = Figure((WIDTH, 3.2), layout="constrained")
        both = figure.subplots(1, 2, sharex=True, sharey=True)
        shades = colormaps["cividis"].resampled(
            40
        )  # few enough for the scale to be drawn, not embedded as an image
        for axes, values, name in zip(both, (data.before, data.after), ("before", "after"), strict=True):
            mesh = axes.pcolormesh(np.asarray(values), cmap=shades, vmin=0, vmax=1, linewidth=0)
            axes.set(title=name, xlabel="fact")
            axes.grid(visible=False)
            places = range(0, len(data.fact_ids), max(1, len(data.fact_ids) // 6))
            axes.set_xticks([place + 0.5 for place in places], [str(place + 1) for place in places])
        layers = range(0, len(data.before), max(1, len(data.before) // 8))
        both[0].set(ylabel="after layer")
        both[0].set_yticks([layer + 0.5 for layer in layers], [str(layer + 1) for layer in layers])
        bar = figure.colorbar(mesh, ax=both, label="probability of the secret", shrink=0.9)
        bar.outline.set_visible(False)
        return to_svg(figure, "layers")


def loss_svg(data: LossCurves) -> str:
    """A panel a training, a line a term, on a logarithmic scale."""
    with look():
        figure = Figure((WIDTH, 0.9 + 1.75 * len(data.runs)), layout="constrained")
        panels = np.atleast_1d(figure.subplots(len(data.runs), 1))
        names = list(dict.fromkeys(name for run in data.runs for name in run))
        for index, (axes, run) in enumerate(zip(panels, data.runs, strict=True)):
            for place, name in enumerate(names):
                values = run.get(name, ())
                axes.plot(
                    range(1, len(values) + 1),
                    [value if value > 0 else np.nan for value in values],
                    color=INK if name == "loss" else FURTHER[(place - 1) % len(FURTHER)],
                    linestyle=STROKES[place % len(STROKES)],
                    linewidth=2 if name == "loss" else 1.4,
                    marker="o" if len(values) == 1 else "",
                    label="sum" if name == "loss" else name.replace("_", " "),
                )
            axes.set(yscale="log", ylabel="loss (nats)")
            axes.margins(x=0.02)
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.xaxis.get_major_locator().set_params(integer=True)
            if len(data.runs) > 1:
                axes.set_title(f"training {index + 1}")
        panels[-1].set_xlabel("step")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=3)
        return to_svg(figure, "loss")


def timing_svg(data: Timings) -> str:
    """A bar a state, from when it was entered to when it was left."""
    with look():
        figure, axes = _sheet(0.8 + _ROW * len(data.states))
        rows = range(len(data.states))
        total = data.starts[-1] + data.seconds[-1]
        axes.barh(
            rows, [max(one, total / 250) for one in data.seconds], left=data.starts, color=ERASED, height=0.55
        )
        for row, (start, seconds) in enumerate(zip(data.starts, data.seconds, strict=True)):
            left = start + seconds > 0.75 * total
            place = start if left else start + max(seconds, total / 250)
            axes.annotate(
                duration(seconds),
                (place, row),
                (-4 if left else 4, 0),
                textcoords="offset points",
                ha="right" if left else "left",
                va="center",
                fontsize=8,
            )
        axes.set(xlim=(0, total), ylim=(len(data.states) - 0.4, -0.6))
        axes.set_xlabel("seconds after acceptance")
        axes.set_yticks(rows, data.states)
        axes.grid(axis="y", visible=False)
        return to_svg(figure, "timing")


SCORES = {"loss": "LOSS", "min_k": "Min-K%"}


def duration(seconds: float) -> str:
    """ "12 ms", "3.4 s", "2 min 5 s"."""
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _sheet(height: float) -> tuple[Figure, Axes]:
    figure = Figure((WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def _legend(axes: Axes) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.02), ncols=3)


def _band(axes: Axes, given: tuple[float, ...], shares: tuple[Share, ...], name: str) -> None:
    asked = [(place, share) for place, share in zip(given, shares, strict=True) if share.n]
    places = [place for place, _ in asked]
    lower, upper = ([100 * share.interval[end] for _, share in asked] for end in (0, 1))
    axes.fill_between(places, lower, upper, color=_COLOURS[name], alpha=0.13, linewidth=0)
    axes.plot(
        places,
        [100 * share.rate for _, share in asked],
        color=_COLOURS[name],
        marker=_MARKS[name],
        markersize=4,
        linestyle="-" if name == "erased" else "--",
        label=f"{_NAMES[name]} ({sum(share.n for share in shares)} splits)",
    )


def _powers(axes: Axes, lowest: float) -> None:
    """Ticks at powers of ten, written as numbers."""
    step = max(1, round(-lowest / 5))
    ticks = list(range(0, int(lowest) - 1, -step))
    axes.set_xticks(ticks, [f"{10.0**tick:g}" for tick in ticks])
    axes.set_xlim(lowest, 0)


def _label(fact_id: str) -> str:
    return fact_id if len(fact_id) <= _LABEL_CHARS else fact_id[: _LABEL_CHARS - 1] + "…"
