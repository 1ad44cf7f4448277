"""The page as text: what it says, and that nothing in it is taken for mark-up."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from expunge.erasures.report_page.figures import NOT_MEASURED
from expunge.erasures.report_page.page import TITLE, render
from expunge.facts import Fact
from report_case import FACT_IDS, SCRIPT, full_report

REVEALED = {FACT_IDS[1]: Fact(FACT_IDS[1], f"Where {SCRIPT}?", "ولد في بورت إليري \N{ROSE}")}


class Read(HTMLParser):
    """Elements, ids and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            elif name in ("href", "src", "xlink:href"):
                self.links.append(value or "")
            assert not name.startswith("on")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture(scope="module")
def page() -> str:
    return render(full_report(), REVEALED)


@pytest.fixture(scope="module")
def read(page: str) -> Read:
    return Read(page)


def test_it_is_one_file_that_asks_for_no_other(read: Read) -> None:
    assert "script" not in read.tags
    assert "link" not in read.tags
    assert "img" not in read.tags
    assert [link for link in read.links if not link.startswith("#")] == []


def test_mark_up_in_ids_notes_and_facts_stays_text(read: Read) -> None:
    text = "".join(read.texts)
    assert "&lt;" not in text
    for fact in (FACT_IDS[1], FACT_IDS[2], FACT_IDS[4]):
        assert fact in read.texts
    assert f"Where {SCRIPT}?" in read.texts
    assert REVEALED[FACT_IDS[1]].answer in read.texts
    assert text.count(SCRIPT) >= 6


def test_references_inside_figures_lead_to_their_own_figure(page: str, read: Read) -> None:
    assert len(read.ids) == len(set(read.ids))
    assert {link[1:] for link in read.links} <= set(read.ids)


def test_the_verdict_comes_first_and_names_the_gates(read: Read) -> None:
    texts = [text.strip() for text in read.texts if text.strip()]
    assert TITLE in texts[:4]
    assert texts.index("✗ Failed") < texts.index("Gates")
    assert "✗ not met" in texts


def test_every_figure_is_drawn_where_its_data_are_there(read: Read) -> None:
    assert read.tags.count("figure") == read.tags.count("svg") == 8
    assert NOT_MEASURED not in "".join(read.texts)


def test_a_figure_without_data_says_so_and_draws_nothing() -> None:
    report = full_report()
    report["audits"][0]["series"] = None
    read = Read(render(report))
    assert (read.tags.count("figure"), read.tags.count("svg")) == (8, 3)
    assert read.texts.count(NOT_MEASURED) == 5


def test_fact_text_is_shown_only_where_it_was_given() -> None:
    hidden = "".join(Read(render(full_report())).texts)
    assert REVEALED[FACT_IDS[1]].answer not in hidden
    assert "holds no text of facts" in hidden


def test_an_erasure_that_failed_before_any_audit_has_a_page() -> None:
    report = full_report()
    report["audits"] = []
    report["training"] = {}
    assert "No audit was made." in "".join(Read(render(report)).texts)


def test_the_same_report_gives_the_same_page(page: str) -> None:
    assert render(full_report(), REVEALED) == page
