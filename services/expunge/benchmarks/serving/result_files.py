"""What was measured, on disk: a document that grows cell by cell, and at the end a picture."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from expunge.benchmarks.serving.conditions import Conditions
from expunge.benchmarks.serving.plot import draw, require_matplotlib
from expunge.benchmarks.serving.report import document
from expunge.benchmarks.serving.run import CellResult
from expunge.errors import InvalidRequest

DOCUMENT, PICTURE = "serving.json", "serving.png"


class ResultFiles:
    """`DOCUMENT` and, where asked for, `PICTURE` in one folder, which is made at once.

    Args:
        folder: where.
        conditions: under which all of it is measured.
        with_plot: whether there is to be a picture.

    Attributes:
        results: the cells so far.

    Raises:
        ConfigError: there is nothing to draw a picture with.
        InvalidRequest: the folder can't be made.
    """

    def __init__(self, folder: Path, conditions: Conditions, *, with_plot: bool) -> None:
        if with_plot:
            require_matplotlib()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidRequest.of(
                "out", f"{folder} can't be made ({error.strerror}); name another"
            ) from error
        self.folder = folder
        self.conditions = conditions
        self.results: list[CellResult] = []
        self._with_plot = with_plot

    @property
    def document(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return document(self.conditions, self.results)

    @property
    def names(self) -> str:
        """The files, in words."""
        return f"{DOCUMENT} and {PICTURE}" if self._with_plot else DOCUMENT

    def add(self, result: CellResult) -> None:
        """Take one more cell in; a run that is stopped later has lost nothing of it."""
        self.results.append(result)
        written = self.folder / f"{DOCUMENT}.part"
        written.write_text(json.dumps(self.document, indent=2) + "\n")
        os.replace(written, self.folder / DOCUMENT)

    def draw(self) -> None:
        """The picture, if there is to be one."""
        if self._with_plot:
            draw(self.results, self.conditions, self.folder / PICTURE)
