"""What a run measured, as a table for a person and a document for a program."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from expunge.benchmarks.serving.conditions import Conditions
from expunge.benchmarks.serving.run import ENGINE, EXPUNGE, FLOOD, ROLLOUTS, CellResult, Measured
from expunge.benchmarks.serving.statistics import Spread, ratio

_COLUMNS = (
    "output\ntok/s",
    "first token\nms p50/p99",
    "inter-token\nms p50/p99",
    "end to end\ns p50/p99",
    "CPU\ncores",
    "peak\nMiB",
    "failed",
    "mixed",
    "short",
    "ratio",
)

_DISTURBED = (ROLLOUTS, FLOOD)  # the service itself, measured again


def ratios(result: CellResult) -> dict[str, float]:
    """Each contender beside the service, in one cell.

    A peer's, and the engine's: the service's output tokens a second over theirs. During rollouts and during
    a flood: the 99th percentile of the first token over that of the quiet run.
    """
    own = result.measured[EXPUNGE].figures
    found = {}
    for name, measured in result.measured.items():
        if name in _DISTURBED:
            found[name] = ratio(measured.figures.first_token_s.p99, own.first_token_s.p99)
        elif name != EXPUNGE:
            found[name] = ratio(own.tokens_per_s, measured.figures.tokens_per_s)
    return found


def document(conditions: Conditions, results: Sequence[CellResult]) -> dict[str, Any]:
    """Everything, ready for JSON; what could not be measured is null."""
    cells = [
        {
            "streams": result.cell.streams,
            "loop": "open" if result.cell.is_open else "closed",
            "rate": result.rate,
            "prompt_tokens": result.cell.prompt_tokens,
            "adapters": result.cell.adapters,
            "measured": {name: measured.to_json() for name, measured in result.measured.items()},
            "ratios": ratios(result),
        }
        for result in results
    ]
    whole: dict[str, Any] = _without_nan({"conditions": conditions.to_json(), "cells": cells})
    return whole


def table(results: Sequence[CellResult]) -> Table:
    """A block of rows for each cell: the load, then everybody who answered it."""
    found = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    found.add_column("\nload", no_wrap=True)
    for column in _COLUMNS:
        found.add_column(column, justify="right", no_wrap=True)
    for result in results:
        found.add_row(f"[bold cyan]{_load(result)}[/]")
        beside = ratios(result)
        for index, (name, measured) in enumerate(result.measured.items()):
            style = "bold" if name == EXPUNGE else ""
            is_last = index == len(result.measured) - 1
            cells = _cells(measured, beside.get(name))
            found.add_row(f"  {_who(name, measured)}", *cells, style=style, end_section=is_last)
    return found


def summary(results: Sequence[CellResult]) -> list[str]:
    """The sentences below the table: the range of each ratio, and anything that must not be.

    An open loop sends as fast as it is told, so its throughput compares nothing.
    """
    lines = []
    names = dict.fromkeys(name for one in results for name in one.measured if name != EXPUNGE)
    for name in names:
        compared = [one for one in results if name in _DISTURBED or not one.cell.is_open]
        values = [value for one in compared if math.isfinite(value := ratios(one).get(name, math.nan))]
        if values:
            lines.append(f"{_meaning(name)}: {min(values):.2f} to {max(values):.2f}")
    mixed = sum(one.figures.mixed_versions for result in results for one in result.measured.values())
    failed = sum(one.figures.errors for result in results for one in result.measured.values())
    lines += [
        f"{_load(result)}: {name} counts {lowest} to {highest} tokens in a prompt; has it another tokenizer?"
        for result in results
        for name, one in result.measured.items()
        for lowest, highest in [one.figures.prompt_tokens]
        if highest and (lowest, highest) != (result.cell.prompt_tokens,) * 2
    ]
    lines.append(f"answers of more than one version: {mixed}; failed requests: {failed}")
    errors = {
        one.figures.first_error
        for result in results
        for one in result.measured.values()
        if one.figures.errors
    }
    return lines + [f"a failure was: {error}" for error in sorted(errors)[:3]]


def mixed_versions(results: Sequence[CellResult]) -> int:
    """Answers of the service that named more than one version."""
    own = (one.measured[name] for one in results for name in (EXPUNGE, *_DISTURBED) if name in one.measured)
    return sum(measured.figures.mixed_versions for measured in own)


def _meaning(name: str) -> str:
    if name == ENGINE:
        return "through gateway, Serve and network over the engine in process (tok/s)"
    if name == ROLLOUTS:
        return "first-token p99 during rollouts over quiet"
    if name == FLOOD:
        return "first-token p99 while another client floods over quiet"
    return f"expunge over {name} (tok/s)"


def _load(result: CellResult) -> str:
    cell = result.cell
    streams = f"{result.rate:.2f} req/s" if cell.is_open else _counted(cell.streams, "stream")
    who = _counted(cell.adapters, "adapter") if cell.adapters else "base"
    return f"{streams}, {cell.prompt_tokens} tok, {who}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number > 1)}"


def _who(name: str, measured: Measured) -> str:
    if measured.flood is not None:
        return f"flood, {measured.flood.refused} refused"
    return f"{measured.rollouts} rollouts meanwhile" if name == ROLLOUTS else name


def _cells(measured: Measured, beside: float | None) -> list[str]:
    one, taken = measured.figures, measured.footprint
    return [
        _number(one.tokens_per_s, ".1f"),
        _spread(one.first_token_s, 1000, ".0f"),
        _spread(one.inter_token_s, 1000, ".1f"),
        _spread(one.end_to_end_s, 1, ".2f"),
        _number(taken.cpu, ".2f") if taken else "-",
        _number(taken.peak_rss_mib, ",.0f") if taken else "-",
        str(one.errors),
        str(one.mixed_versions),
        str(one.short),
        "" if beside is None else _number(beside, ".2f"),
    ]


def _spread(spread: Spread, scale: float, form: str) -> str:
    return f"{_number(spread.p50 * scale, form)}/{_number(spread.p99 * scale, form)}"


def _number(value: float, form: str) -> str:
    return format(value, form) if math.isfinite(value) else "-"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
