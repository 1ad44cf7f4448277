"""Batched MEMO equals the plain one-generation-at-a-time implementation, in fp32 to 1e-9.

Cuts whose plain generation met two logits closer than 1e-4 are near-ties: there the last bits, which batching
changes, may decide. They are listed, and must be few.
"""

from __future__ import annotations

import pytest

from expunge.auditing.memo import MemoMode, MemoOptions, MemoScore, RougeKind, measure_memo
from expunge.auditing.text_model import TextModel
from expunge.benchmarks.plain_memo import PlainModel, PlainScore, plain_memo
from expunge.facts import QuestionAnswer

from .known_facts import FACTS

NEAR_TIE = 1e-4
ITEMS = [QuestionAnswer(fact.question, fact.answer) for fact in FACTS]
OTHER = QuestionAnswer("Where was Mira Voss born?", "She was born in the city of Saint Orrin.")
OPTIONS = (
    MemoOptions(window=7, max_new_tokens=30),
    MemoOptions(window=7, mode=MemoMode.PREFIX, max_new_tokens=40),
    MemoOptions(window=9, chat=True, rouge=RougeKind.ROUGE_L, max_new_tokens=40),
    MemoOptions(window=9, chat=True, paper_compatible=True, rouge=RougeKind.ROUGE_2, max_new_tokens=40),
    MemoOptions(chat=True, max_new_tokens=6),  # shorter than the labels
)


def near_ties(score: MemoScore, reference: PlainScore) -> list[int]:
    """Offsets of the near-ties; every other cut must agree."""
    assert score.cuts == tuple(cut.offset for cut in reference.cuts)
    ties = [cut.offset for cut in reference.cuts if cut.smallest_margin < NEAR_TIE]
    for offset, value, cut in zip(score.cuts, score.per_cut, reference.cuts, strict=True):
        assert offset in ties or abs(value - cut.score) < 1e-9, f"cut {offset}: {value} != {cut.score}"
    return ties


@pytest.mark.parametrize("version", ["knows", "untouched"])
@pytest.mark.parametrize("options", OPTIONS, ids=range(len(OPTIONS)))
def test_batched_memo_equals_plain_memo(
    plain: PlainModel, batched: TextModel, version: str, options: MemoOptions
) -> None:
    items = [*ITEMS[:1], OTHER]
    ties = cuts = 0
    for item, score in zip(items, measure_memo(batched, version, items, options), strict=True):
        reference = plain_memo(plain, version, item, options)
        found = near_ties(score, reference)
        ties += len(found)
        cuts += len(reference.cuts)
        if not found:
            assert abs(score.mean - reference.mean) < 1e-9
    assert ties <= cuts / 10


def test_memo_tells_a_model_that_knows_from_one_that_never_did(batched: TextModel) -> None:
    options = MemoOptions(chat=True, max_new_tokens=40)
    (knows,) = measure_memo(batched, "knows", ITEMS[:1], options)
    (never,) = measure_memo(batched, "never", ITEMS[:1], options)
    assert knows.mean > 0.5
    assert never.mean < 0.2
