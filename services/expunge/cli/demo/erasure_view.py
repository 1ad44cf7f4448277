"""The life of the erasure as it happens: which state it is in, since when, and what each step found."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from expunge.cli.messages import as_dict
from expunge.cli.progress import figures
from expunge.rpc.operator.v1 import erasure_pb2

LIFE = (
    "accepted",
    "suppressed",
    "inverting",
    "measuring",
    "training",
    "auditing",
    "staging",
    "live",
    "verified",
    "closed",
)
MEANING = {
    "accepted": "stored, encrypted",
    "suppressed": "every gateway refuses questions about the person",
    "inverting": "making false answers as new targets",
    "measuring": "MEMO: how well are the truth and each candidate remembered",
    "training": "a new adapter that contains the live one",
    "auditing": "attacking it, gate by gate",
    "staging": "loading it on every replica",
    "live": "one compare-and-set, no request dropped",
    "verified": "asked again through the live gateway",
    "closed": "suppression lifted, report written",
}


class ErasureView:
    """Collects the events of one erasure; draws them, and keeps the times and figures."""

    def __init__(self) -> None:
        self.entered: dict[str, float] = {}  # state → seconds since the epoch, of its newest entry
        self.figures: dict[str, dict[str, Any]] = {}  # state → figures that came with it
        self.state = ""
        self.confirmed_s: float | None = None  # from acceptance to the last gateway's confirmation
        self._step: Mapping[str, Any] = {}
        self._spinner = Spinner("dots")

    def take(self, response: erasure_pb2.WatchErasureResponse) -> str:
        """Notes one event. Returns the state it entered, or "" for any other event."""
        event = response.event
        data = as_dict(event)["data"]
        if event.kind == "progress":
            self._step = data.get("progress", data)
            return ""
        if event.kind == "guard_confirmed":
            self.confirmed_s = float(data["seconds"])
            return ""
        if not event.topic.startswith("erasure:"):
            return ""
        word = str(data.get("state", ""))
        if word in ("", self.state):
            self.figures.setdefault(self.state, {}).update(data)
            return ""
        self.state = word
        self._step = {}
        self.entered[word] = event.at.seconds + event.at.nanos / 1e9
        self.figures[word] = data
        return word

    def seconds(self, state: str) -> float | None:
        """Seconds from acceptance to `state`, where both were entered."""
        if state not in self.entered or "accepted" not in self.entered:
            return None
        return self.entered[state] - self.entered["accepted"]

    def render(self, beside: RenderableType) -> RenderableType:
        """The states with their times, next to `beside`."""
        grid = Table.grid(padding=(0, 1))
        for state in LIFE:
            grid.add_row(*self._row(state))
        return Columns([Group(grid, self._bar()), beside], padding=(0, 6))

    def _row(self, state: str) -> tuple[RenderableType, ...]:
        seconds = self.seconds(state)
        if state == self.state and state != "closed":
            return self._spinner, Text(state, style="bold cyan"), Text(MEANING[state], style="dim")
        if seconds is None:
            return Text(" "), Text(state, style="dim"), Text("")
        return Text("✓", style="green"), Text(state), Text(f"{seconds:.1f} s", style="dim")

    def _bar(self) -> RenderableType:
        step, steps = float(self._step.get("step", 0)), float(self._step.get("steps", 0))
        if not steps:
            since = self.entered.get(self.state)
            return Text("" if since is None else f"{time.time() - since:.0f} s", style="dim")
        grid = Table.grid(padding=(0, 1))
        text = f"{step:.0f}/{steps:.0f} {figures(self._step)}"
        grid.add_row(ProgressBar(total=steps, completed=step, width=28), escape(text))
        return grid
