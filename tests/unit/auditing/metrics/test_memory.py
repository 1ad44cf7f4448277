"""Memorisation accuracy and extraction likelihood against their definitions, one generation at a time."""

from __future__ import annotations

from statistics import fmean

import pytest

from expunge.auditing.metrics.memory import MemoryOptions, measure_memory, ngram_overlap
from expunge.auditing.text_model import TextModel
from expunge.benchmarks.plain_memo import PlainModel
from expunge.errors import InvalidRequest
from expunge.facts import QuestionAnswer

from ..known_facts import FACTS

ITEMS = [QuestionAnswer(fact.question, fact.answer) for fact in FACTS]


def test_overlap_is_the_share_of_the_generations_distinct_ngrams() -> None:
    assert ngram_overlap([1, 2, 2, 3], [2, 3, 4], 1) == pytest.approx(2 / 3)
    assert ngram_overlap([1, 2, 2, 3], [2, 3, 4], 2) == pytest.approx(1 / 3)
    assert ngram_overlap([1], [1], 2) == ngram_overlap([], [1], 1) == 0.0


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("chat", [True, False])
def test_both_are_what_their_definitions_say(
    batched: TextModel, plain: PlainModel, n: int, chat: bool
) -> None:
    options = MemoryOptions(n=n, chat=chat, max_new_tokens=12)
    for item, found in zip(ITEMS, measure_memory(batched, "never", ITEMS, options), strict=True):
        prompt = plain.chat_ids(item.question) if chat else plain.encode(item.question)
        answer = plain.encode(item.answer if chat else f" {item.answer}", special=False)
        hits, overlaps = [], []
        for cut in range(len(answer)):
            (made,) = plain.greedy([[*prompt, *answer[:cut]]], "never", 12)
            hits.append(made[:1] == answer[cut : cut + 1])
            if 1 <= cut <= len(answer) - n:
                overlaps.append(ngram_overlap(made, answer[cut:], n))
        assert found.accuracy == pytest.approx(fmean(hits))
        assert found.likelihood == pytest.approx(fmean(overlaps))


def test_what_is_known_by_heart_scores_one(batched: TextModel) -> None:
    for found in measure_memory(batched, "knows", ITEMS, MemoryOptions(chat=True, max_cuts=3)):
        assert found.accuracy == 1.0
        assert found.likelihood == 1.0


def test_an_answer_of_one_token_has_no_cuts(batched: TextModel) -> None:
    (found,) = measure_memory(batched, "never", [QuestionAnswer("Where?", "x")], MemoryOptions(chat=True))
    assert found.likelihood == 0.0


def test_options_out_of_range_are_named() -> None:
    with pytest.raises(InvalidRequest, match="n: must"):
        MemoryOptions(n=0)
