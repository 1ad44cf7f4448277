"""Shows long work as it goes: a bar on a terminal, plain lines elsewhere, JSON lines if asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from expunge.cli.messages import as_dict
from expunge.cli.output import Output
from expunge.rpc.operator.v1 import event_pb2

_HIDDEN = {"from", "step", "steps", "stage", "state"}


class EventProgress:
    """Prints the events of an erasure, a job or an audit."""

    def __init__(self, out: Output, bars: Progress | None, title: str) -> None:
        self._out = out
        self._bars = bars
        self._title = title
        self._bar: TaskID | None = bars.add_task(title, total=None) if bars else None
        self._said = ""

    def show(self, event: event_pb2.Event) -> None:
        """One event: a finished state becomes a line, a step moves the bar."""
        self._out.line(as_dict(event))
        data = as_dict(event)["data"]
        if event.kind == "progress":
            self._step(data.get("progress", data))
        else:
            self._line(event.kind, data)

    def _step(self, data: Mapping[str, Any]) -> None:
        step, steps = float(data.get("step", 0)), float(data.get("steps", 0))
        what = str(data.get("stage", self._title))
        if self._bars is not None and self._bar is not None:
            self._bars.update(
                self._bar, description=f"{what} {figures(data)}", completed=step, total=steps or None
            )
        elif steps and (step == steps or int(10 * step / steps) != int(10 * (step - 1) / steps)):
            self._out.say(f"  {escape(what)} {step:.0f}/{steps:.0f} {escape(figures(data))}")

    def _line(self, kind: str, data: Mapping[str, Any]) -> None:
        word = str(data.get("state", kind)) if kind in ("state", "accepted") else kind
        line = f"[bold]{escape(word)}[/] [dim]{escape(figures(data))}[/]"
        if line == self._said:
            return
        self._said = line
        (self._bars.console.print if self._bars else self._out.say)(line)
        if self._bars is not None and self._bar is not None:
            self._bars.update(self._bar, description=word, completed=0, total=None)


@contextmanager
def shown(out: Output, title: str) -> Iterator[EventProgress]:
    """An `EventProgress` whose bar lives as long as the block."""
    if not out.is_live:
        yield EventProgress(out, None, title)
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=out.console, transient=True) as bars:
        yield EventProgress(out, bars, title)


def figures(data: Mapping[str, Any]) -> str:
    """The short facts of an event as `name value`; nested ones are left to --json."""
    shown_facts = []
    for name, value in data.items():
        if name in _HIDDEN or value in ("", None) or isinstance(value, dict | list):
            continue
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        shown_facts.append(f"{name} {text if len(text) <= 60 else text[:12] + '…'}")
    return " · ".join(shown_facts)
