"""Definitions: ids, other parameters, and the page that lists them."""

from __future__ import annotations

from pathlib import Path

import pytest

from expunge.auditing.memo import MemoMode, MemoOptions
from expunge.auditing.metrics.definitions import DEFINITIONS, definition
from expunge.auditing.metrics.memory import MemoryOptions
from expunge.errors import InvalidRequest

PAGE = Path(__file__).parents[4] / "docs" / "auditing.md"


def test_an_id_names_version_and_parameters() -> None:
    assert definition("min_k", k=0.2).id == "min_k@1(k=0.2,eos=true)"
    assert definition("aggregate").id == "aggregate@1"


def test_unknown_metrics_and_parameters_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="'min_q' is not defined"):
        definition("min_q")
    with pytest.raises(InvalidRequest, match="q: is no parameter of min_k"):
        definition("min_k", q=0.2)


def test_memo_and_its_rivals_name_the_options_in_use() -> None:
    options = MemoOptions(mode=MemoMode.PREFIX, window=9, chat=True, max_cuts=4)
    named = "mode=prefix,window=9,rouge=rouge1,chat=true,max_new_tokens=200,max_cuts=4,special_tokens=false"
    assert options.definition.id == f"memo@1({named})"
    accuracy, likelihood = MemoryOptions(n=2, max_new_tokens=20).definitions
    assert accuracy.id == "memorisation_accuracy@1(over=answer,chat=false)"
    assert "n=2" in likelihood.id
    assert "max_new_tokens=20" in likelihood.id


def test_the_page_lists_every_definition_as_registered() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert [known.id for known in DEFINITIONS.values() if f"`{known.id}`" not in page] == []
