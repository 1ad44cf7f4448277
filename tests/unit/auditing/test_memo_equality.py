"""Batched MEMO equals the plain one-generation-at-a-time implementation, in fp32 to 1e-9.

Cuts whose plain generation met two logits closer than 1e-4 are near-ties: there the last bits, which batching
changes, may decide. They are listed, and must be few.
"""

from __future__ import annotations

import pytest

from expunge.auditing.memo import MemoMode, MemoOptions, measure_memo
from expunge.auditing.metrics.rouge import RougeKind
from expunge.auditing.text_model import TextModel
from expunge.benchmarks.memo import compare, run_memo_benchmark
from expunge.benchmarks.plain_memo import PlainModel, plain_memo
from expunge.cli.demo.cast import load_cast
from expunge.config import Settings
from expunge.facts import QuestionAnswer

from .known_facts import FACTS

ITEMS = [QuestionAnswer(fact.question, fact.answer) for fact in FACTS]
OTHER = QuestionAnswer("Where was Mira Voss born?", "She was born in the city of Saint Orrin.")
OPTIONS = (
    MemoOptions(window=7, max_new_tokens=30),
    MemoOptions(window=7, mode=MemoMode.PREFIX, max_new_tokens=40),
    MemoOptions(window=9, chat=True, rouge=RougeKind.ROUGE_L, max_new_tokens=40),
    MemoOptions(window=9, chat=True, paper_compatible=True, rouge=RougeKind.ROUGE_2, max_new_tokens=40),
    MemoOptions(chat=True, max_new_tokens=6),  # shorter than the labels
)


@pytest.mark.parametrize("version", ["knows", "untouched"])
@pytest.mark.parametrize("options", OPTIONS, ids=range(len(OPTIONS)))
def test_batched_memo_equals_plain_memo(
    plain: PlainModel, batched: TextModel, version: str, options: MemoOptions
) -> None:
    items = [*ITEMS[:1], OTHER]
    scores = measure_memo(batched, version, items, options)
    references = [plain_memo(plain, version, item, options) for item in items]
    assert [score.cuts for score in scores] == [
        tuple(cut.offset for cut in reference.cuts) for reference in references
    ]
    found = compare(scores, references)
    assert found.largest_difference < 1e-9
    assert len(found.near_ties) <= sum(len(reference.cuts) for reference in references) / 10
    for index, (score, reference) in enumerate(zip(scores, references, strict=True)):
        if index not in [tie.item for tie in found.near_ties]:
            assert abs(score.mean - reference.mean) < 1e-9


@pytest.mark.slow
@pytest.mark.real_model
@pytest.mark.timeout(1800)
def test_the_papers_200_tokens_on_the_bundled_model_are_equal_too() -> None:
    facts = load_cast().person.facts[:2]
    result, _ = run_memo_benchmark("bundled", facts, cache=Settings().cache)
    assert result["max_new_tokens"] == 200
    assert result["cuts"] == result["plain_cuts"] > 20
    assert result["largest_difference"] < 1e-9
    assert len(result["near_ties"]) <= result["cuts"] / 10


def test_memo_tells_a_model_that_knows_from_one_that_never_did(batched: TextModel) -> None:
    options = MemoOptions(chat=True, max_new_tokens=40)
    (knows,) = measure_memo(batched, "knows", ITEMS[:1], options)
    (never,) = measure_memo(batched, "never", ITEMS[:1], options)
    assert knows.mean > 0.5
    assert never.mean < 0.2
