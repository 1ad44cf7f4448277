"""Renders a stored report as one HTML file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from expunge.erasures.report_page import contents
from expunge.erasures.report_page.figure_data import FigureData
from expunge.erasures.report_page.figures import report_figures
from expunge.facts import Fact

TITLE = "Unlearning audit report"


def render(report: Mapping[str, Any], revealed: Mapping[str, Fact] | None = None) -> str:
    """The page of a report (`erasures.report`).

    Args:
        report: as stored, also by earlier releases.
        revealed: fact id → fact whose text is to be shown; the report itself holds ids alone.
    """
    data = FigureData(report)
    audit = data.audit
    return (
        _environment()
        .get_template("page.html")
        .render(
            title=TITLE,
            report=report,
            audit=audit,
            verdict=contents.verdict(data),
            highlights=contents.highlights(data),
            gates=contents.gate_rows(audit),
            facts=contents.fact_rows(audit, revealed or {}),
            is_revealed=bool(revealed),
            figures=report_figures(data),
            shown=contents.SHOWN,
            conditions=contents.conditions(data),
            verification=contents.verification(report),
            definitions=contents.definitions(audit),
        )
    )


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader(__package__, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
