"""The report's page in a real browser, at a phone's width and at a desktop's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from browser import DESKTOP, PHONE, needs_chromium, open_page
from expunge.erasures.report_page.page import render
from report_case import full_report

pytestmark = needs_chromium
COLOURS = 50  # a blank page has one


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(render(full_report()), encoding="utf-8")
    return file


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_it_opens_without_an_error_and_fits_its_window(page: Path, width: int) -> None:
    seen = open_page(page, width)
    assert seen.console == []
    assert seen.content_width <= width
    with Image.open(seen.screenshot) as shown:
        assert shown.width == width
        pixels = np.asarray(shown.convert("RGB")).reshape(-1, 3)
    assert len(np.unique(pixels, axis=0)) > COLOURS


def test_a_page_that_is_too_wide_or_breaks_its_policy_would_be_noticed(tmp_path: Path) -> None:
    file = tmp_path / "broken.html"
    file.write_text(
        '<!doctype html><meta http-equiv="Content-Security-Policy" content="default-src \'none\'">'
        "<body><table width=700><td>wide</table><script>alert(1)</script>"
    )
    seen = open_page(file, PHONE)
    assert seen.console
    assert seen.content_width > PHONE
