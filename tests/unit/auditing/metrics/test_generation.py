"""Measures of written text, by hand."""

from __future__ import annotations

import pytest

from expunge.auditing.metrics.generation import bleu, label_accuracy, rep_3, repetition
from expunge.auditing.metrics.rouge import rouge_l_f1s, rouge_l_recalls
from expunge.errors import InvalidRequest


def test_rouge_l_recall_stems_and_reads_replies_of_any_length() -> None:
    # stems "clock repair harbour": two of three in order
    assert rouge_l_recalls(["clocks repaired harbour"], ["He repairs a clock, harbours"]) == [
        pytest.approx(2 / 3)
    ]
    assert rouge_l_recalls(["Paris", "Paris"], ["", "paris " * 800]) == [0.0, 1.0]


@pytest.mark.parametrize("text", ["", "東京", "שלום", "🙂"])
def test_what_rouge_can_not_read_is_named(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"answers\[1\]"):
        rouge_l_recalls(["Paris", text], ["Paris", text])
    with pytest.raises(InvalidRequest, match=r"answers\[0\]"):
        rouge_l_f1s([text], [text])


def test_rep_3_is_the_share_of_trigrams_said_before() -> None:
    assert rep_3("a b c a b c a b c") == pytest.approx(1 - 3 / 7)
    assert rep_3("a b") == rep_3("") == 0.0
    assert repetition(["a b c d", "a a a a"]).value == pytest.approx(0.25)


def test_bleu_of_the_same_text_is_one_and_of_nothing_zero() -> None:
    text = "she repairs clocks in the harbour"
    assert bleu([text], [text]) == pytest.approx(1.0)
    assert bleu([text], [""]) == bleu([text], ["東 京"]) == 0.0


def test_bleu_by_hand() -> None:
    # words 4/5, pairs 3/4, triples 2/3, fours 1/2, equally long
    made, truth = "a b c d x", "a b c d e"
    assert bleu([truth], [made]) == pytest.approx((4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)


def test_the_gold_label_must_come_early() -> None:
    found = label_accuracy(["B", "B"], ["Answer: B", "I think it is B"])
    assert found.value == 0.5
    assert found.definition == "gold_label@1(characters=10)"


def test_empty_labels_and_references_are_named() -> None:
    with pytest.raises(InvalidRequest, match=r"labels\[0\]"):
        label_accuracy([" "], ["B"])
    with pytest.raises(InvalidRequest, match=r"references\[0\]"):
        bleu([""], ["a"])
    with pytest.raises(InvalidRequest, match="references: is empty"):
        bleu([], [])
