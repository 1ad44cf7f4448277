"""What a command prints: tables and sentences for a person, one JSON document for a program."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from expunge.cli.failures import Failure


class Output:
    """Where a command's result goes.

    Args:
        as_json: print JSON only. Streams of events become one JSON object a line.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.console = Console(highlight=False, soft_wrap=not Console().is_terminal)
        self.errors = Console(stderr=True, highlight=False, soft_wrap=True)

    @property
    def is_live(self) -> bool:
        """Whether bars may be drawn: a person's terminal, and no JSON asked for."""
        return self.console.is_terminal and not self.as_json

    def say(self, text: str) -> None:
        """A sentence for a person; nothing in JSON mode. `text` may hold rich markup."""
        if not self.as_json:
            self.console.print(text)

    def document(self, value: object) -> None:
        """The one result of a command, in JSON mode; nothing otherwise."""
        if self.as_json:
            print(json.dumps(value, ensure_ascii=False, indent=2), flush=True)

    def line(self, value: object) -> None:
        """One of several results that come over time, in JSON mode; nothing otherwise."""
        if self.as_json:
            print(json.dumps(value, ensure_ascii=False), flush=True)

    def fields(self, values: Mapping[str, object]) -> None:
        """Names and values of one object, for a person."""
        if self.as_json:
            return
        grid = Table.grid(padding=(0, 2))
        for name, value in values.items():
            grid.add_row(f"[dim]{escape(name)}[/]", escape(str(value)))
        self.console.print(grid)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
        """Several objects, for a person; the sentence `empty` when there are none."""
        if self.as_json:
            return
        if not rows:
            self.console.print(empty)
            return
        table = Table(box=None, header_style="bold", pad_edge=False)
        for index, column in enumerate(columns):
            table.add_column(column, overflow="fold", no_wrap=index == 0)  # ids come first, to be copied
        for row in rows:
            table.add_row(*(escape(str(value)) for value in row))
        self.console.print(table)

    def failure(self, failure: Failure) -> None:
        """Why the command failed, on stderr for a person, as a document for a program."""
        if self.as_json:
            self.document(failure.to_json())
            return
        self.errors.print(f"[bold red]✗[/] {escape(failure.sentence)}")
        for detail in failure.details:
            self.errors.print(f"  · {escape(detail)}")
        if failure.remedy:
            self.errors.print(f"  [dim]{escape(failure.remedy)}[/]")
