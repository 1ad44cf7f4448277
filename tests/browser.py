"""Headless Chromium, as a reader opens a page with it."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (apt-get install chromium)")
PHONE, DESKTOP = 360, 1280
_OVERFLOW = re.compile(r"<title>(\d+)</title>")
# Measures from outside: the page itself may run no script.
_FRAME = """<!doctype html><title>0</title>
<iframe src="{name}" style="width:{width}px;height:800px;border:0"></iframe>
<script>document.querySelector("iframe").onload = event => {{
  document.title = event.target.contentDocument.documentElement.scrollWidth
}}</script>"""


@dataclass(frozen=True)
class Seen:
    """A page as it was shown: its screenshot, what the console said, and how wide its contents are."""

    screenshot: Path
    console: list[str]
    content_width: int


def open_page(page: Path, width: int) -> Seen:
    """Open a file in a window of `width` CSS pixels."""
    screenshot = page.with_name(f"{page.stem}-{width}.png")
    said = _chromium(f"--window-size={width},3000", f"--screenshot={screenshot}", page.as_uri()).stderr
    frame = page.with_name(f"{page.stem}-{width}-frame.html")
    frame.write_text(_FRAME.format(name=page.name, width=width))
    shown = _chromium("--allow-file-access-from-files", "--dump-dom", frame.as_uri()).stdout
    measured = _OVERFLOW.search(shown)
    assert measured, shown[:500]
    console = [line for line in said.splitlines() if "CONSOLE" in line]
    return Seen(screenshot, console, int(measured[1]))


def _chromium(*arguments: str) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr")
    return subprocess.run(
        [CHROMIUM, *options, *arguments], capture_output=True, text=True, timeout=60, check=True
    )
