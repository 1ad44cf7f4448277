"""Figures in the report's look, as SVG that stands inside a page: text stays text, ids are its own."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

WIDTH = 3.8  # inches; the page scales it between a phone's width and half a desktop's
INK, QUIET, RULE, PAPER = "#1f2328", "#5b6470", "#d9dde3", "#ffffff"
# After Okabe and Ito (2008), told apart by people with any kind of colour vision.
ERASED, CONTROL, BEFORE = "#0072b2", "#7a828c", "#d55e00"
FURTHER = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
STROKES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 2)))

_LOOK: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # labels are ids of other people's choice; a $ is a $
    "font.family": "sans-serif",
    "font.size": 8.5,
    "axes.edgecolor": RULE,
    "axes.labelcolor": QUIET,
    "axes.labelsize": 8.5,
    "axes.titlesize": 8.5,
    "axes.titlecolor": QUIET,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#eceff3",
    "grid.linewidth": 0.8,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": QUIET,
    "ytick.labelcolor": QUIET,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.labelcolor": INK,
    "legend.handlelength": 1.7,
    "legend.columnspacing": 1.4,
    "legend.borderaxespad": 0.0,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "hatch.linewidth": 0.5,
}
_REFERENCES = re.compile(r'(\bid="|url\(#|href="#)')
_PREAMBLE = re.compile(r"^.*?(?=<svg\b)", re.DOTALL)
_METADATA = re.compile(r"<metadata>.*?</metadata>\s*", re.DOTALL)
_SIZE = re.compile(r'(<svg\b[^>]*?)\s(?:width|height)="[^"]*"')


@contextmanager
def look() -> Iterator[None]:
    """Matplotlib's settings for everything that is drawn inside."""
    with mpl.rc_context(_LOOK), warnings.catch_warnings():
        # Sizes are measured in matplotlib's own font; the reader's browser has one for every script.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        yield


def to_svg(figure: Figure, key: str) -> str:
    """The figure as an `svg` element that takes the width it is given; every id in it begins with `key`.

    Equal figures give equal text. It is hidden from screen readers: the page says the same in words.
    """
    written = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": key}):
        figure.savefig(written, format="svg", facecolor="none", metadata={"Date": None, "Creator": None})
    text = _METADATA.sub("", _PREAMBLE.sub("", written.getvalue(), count=1), count=1)
    for _ in ("width", "height"):
        text = _SIZE.sub(r"\1", text, count=1)
    text = _REFERENCES.sub(rf"\g<1>{key}-", text)
    return text.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1).strip()
