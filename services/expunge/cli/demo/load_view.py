"""The load as a few lines on the screen."""

from __future__ import annotations

import time
from collections import Counter

from rich.console import RenderableType
from rich.table import Table

from expunge.cli.demo.responses import Outcome, Response
from expunge.cli.demo.traffic import Traffic
from expunge.cli.messages import short

_WINDOW_S = 10.0


def load_view(traffic: Traffic) -> RenderableType:
    """Counts, speed of the last seconds, and which versions answer."""
    responses = traffic.responses
    counts = Counter(response.outcome for response in responses)
    recent = [item for item in responses if item.done > time.time() - _WINDOW_S]
    grid = Table.grid(padding=(0, 2))
    grid.add_row("[dim]answered[/]", f"[green]{counts[Outcome.ANSWERED]}[/]")
    grid.add_row("[dim]refused by policy[/]", f"[yellow]{counts[Outcome.REFUSED]}[/]")
    failed = counts[Outcome.FAILED]
    grid.add_row("[dim]failed[/]", f"[red]{failed}[/]" if failed else "0")
    grid.add_row("[dim]tokens/s[/]", f"{sum(item.tokens for item in recent) / _WINDOW_S:.0f}")
    grid.add_row("[dim]first token, median[/]", _first_token(recent))
    grid.add_row("[dim]answered by[/]", _versions(recent))
    return grid


def _first_token(responses: list[Response]) -> str:
    waits = sorted(item.first - item.sent for item in responses if item.outcome is Outcome.ANSWERED)
    return f"{1000 * waits[len(waits) // 2]:.0f} ms" if waits else "-"


def _versions(responses: list[Response]) -> str:
    counts = Counter(version for item in responses for version, _ in item.versions)
    return ", ".join(f"{short(version)}" for version, _ in counts.most_common()) or "-"
