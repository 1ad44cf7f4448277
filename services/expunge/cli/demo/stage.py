"""Where the demo is shown: numbered steps with their times, and a part of the screen that stays alive."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from expunge.cli.progress import figures

_INDENT = (0, 0, 0, 3)


class _Redrawn:
    """Asks for its content each time the screen is drawn."""

    def __init__(self, render: Callable[[], RenderableType]) -> None:
        self._render = render

    def __rich__(self) -> RenderableType:
        return Padding(self._render(), _INDENT)


class Stage:
    """The demo's screen.

    Args:
        console: where it is drawn; bars and live parts only when it is a terminal.
        clock: seconds, for the elapsed times.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = console
        self._clock = clock
        self._began = clock()
        self._number = 0

    @property
    def elapsed_s(self) -> float:
        """Seconds since the demo began."""
        return self._clock() - self._began

    def open(self, title: str, subtitle: str) -> None:
        """The first thing on the screen."""
        self.console.print(Panel(Group(Text(title, style="bold"), Text(subtitle, style="dim")), expand=False))

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """One numbered step; its time is printed when it ends well."""
        self._number += 1
        began = self._clock()
        self.console.print(f"\n[bold cyan]{self._number}[/]  [bold]{title}[/]")
        yield
        seconds = self._clock() - began
        self.console.print(
            Padding(f"[dim]{seconds:.1f} s, {_minutes(self.elapsed_s)} since the start[/]", _INDENT)
        )

    def say(self, text: str) -> None:
        """A line within the present step; `text` may hold rich markup."""
        self.console.print(Padding(text, _INDENT))

    @contextmanager
    def bar(self, what: str) -> Iterator[Callable[[Mapping[str, Any]], None]]:
        """A function that moves a bar: by {step, steps, ...}, or by one for each call without steps."""
        columns = (
            TextColumn("   {task.description}"),
            BarColumn(bar_width=32),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
        )
        with Progress(
            *columns, console=self.console, transient=True, disable=not self.console.is_terminal
        ) as bars:
            task = bars.add_task(what, total=None, note="")

            def move(data: Mapping[str, Any]) -> None:
                if "steps" in data:
                    bars.update(task, completed=data["step"], total=data["steps"], note=figures(data))
                else:
                    bars.update(task, advance=1, note=f"{bars.tasks[0].completed:.0f}")

            yield move

    def show(self, renderable: RenderableType) -> None:
        """A table or panel within the present step."""
        self.console.print(Padding(renderable, _INDENT))

    @contextmanager
    def live(self, render: Callable[[], RenderableType]) -> Iterator[None]:
        """Keeps `render()` on the screen while the block runs; shows nothing where there is no terminal."""
        if not self.console.is_terminal:
            yield
            return
        with Live(_Redrawn(render), console=self.console, refresh_per_second=8, transient=True):
            yield


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
