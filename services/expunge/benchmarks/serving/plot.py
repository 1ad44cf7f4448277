"""The run as a picture: throughput and waiting times, by load and contender."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from expunge.benchmarks.serving.conditions import Conditions
from expunge.benchmarks.serving.run import CellResult
from expunge.benchmarks.serving.statistics import Figures
from expunge.errors import ConfigError

_COLOURS = ("#1b6ca8", "#e08e45", "#5a9e6f", "#8f6bb3")
_ROWS: tuple[tuple[str, Callable[[Figures], tuple[float, float | None]]], ...] = (
    ("output tokens a second", lambda one: (one.tokens_per_s, None)),
    ("first token, ms (p50, p99)", lambda one: (one.first_token_s.p50 * 1000, one.first_token_s.p99 * 1000)),
    ("inter-token, ms (p50, p99)", lambda one: (one.inter_token_s.p50 * 1000, one.inter_token_s.p99 * 1000)),
)


def require_matplotlib() -> None:
    """Tells before a long run that its picture can't be drawn.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    _pyplot()


def draw(results: Sequence[CellResult], conditions: Conditions, file: Path) -> None:
    """Writes the picture as a PNG: a column for each number of adapters, a row for each quantity.

    A bar is the median, its whisker ends at the 99th percentile.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    pyplot = _pyplot()
    columns = sorted({result.cell.adapters for result in results})
    names = list(dict.fromkeys(name for result in results for name in result.measured))
    loads = max(sum(one.cell.adapters == adapters for one in results) for adapters in columns)
    width = max(3.6, 0.75 * loads + 0.25 * loads * len(names)) * len(columns)
    figure, axes = pyplot.subplots(
        len(_ROWS), len(columns), figsize=(width, 9), squeeze=False, sharey="row", layout="constrained"
    )
    for column, adapters in enumerate(columns):
        cells = [result for result in results if result.cell.adapters == adapters]
        for row, (title, value) in enumerate(_ROWS):
            axis = axes[row][column]
            _bars(axis, cells, names, value)
            axis.spines[["top", "right"]].set_visible(False)
            axis.grid(axis="y", color="#dddddd", linewidth=0.7)
            axis.set_axisbelow(True)
            if row == 0:
                axis.set_title("base" if not adapters else f"{adapters} adapter{'s' * (adapters > 1)}")
            if column == 0:
                axis.set_ylabel(title)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(names), frameon=False)
    figure.text(
        0.5, -0.02, "\n".join(conditions.lines()[:2]), ha="center", va="top", fontsize=8, color="#555555"
    )
    figure.savefig(file, dpi=130, bbox_inches="tight")
    pyplot.close(figure)


def _bars(
    axis: Any,
    cells: Sequence[CellResult],
    names: Sequence[str],
    value: Callable[[Figures], tuple[float, float | None]],
) -> None:
    width = 0.8 / len(names)
    for index, name in enumerate(names):
        places, heights, tails = [], [], []
        for place, result in enumerate(cells):
            if name in result.measured:
                height, tail = value(result.measured[name].figures)
                places.append(place - 0.4 + width * (index + 0.5))
                heights.append(height)
                tails.append(0.0 if tail is None else tail - height)
        whiskers = [[0.0] * len(tails), tails] if any(tails) else None
        axis.bar(
            places,
            heights,
            width * 0.92,
            yerr=whiskers,
            label=name,
            color=_COLOURS[index % len(_COLOURS)],
            error_kw={"elinewidth": 1, "capsize": 2, "ecolor": "#444444"},
        )
    axis.set_xticks(range(len(cells)), [_tick(result) for result in cells], fontsize=8)


def _tick(result: CellResult) -> str:
    cell = result.cell
    load = f"{result.rate:.1f}/s" if cell.is_open else f"{cell.streams} str."
    return f"{load}\n{cell.prompt_tokens} tok."


def _pyplot() -> Any:
    try:
        importlib.import_module("matplotlib").use("Agg")
        return importlib.import_module("matplotlib.pyplot")
    except ModuleNotFoundError:
        raise ConfigError(
            "the plot needs matplotlib, which is not installed: pip install 'expunge[bench]', "
            "or leave the plot out with --no-plot"
        ) from None
