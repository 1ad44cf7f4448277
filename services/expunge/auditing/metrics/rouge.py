"""ROUGE between two texts, with the stemmer on.

ROUGE knows only the letters a-z and digits: for a text in another script every score is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from functools import lru_cache

from rouge_score import rouge_scorer, tokenizers
from rouge_score.scoring import Score

from expunge.errors import InvalidRequest


class RougeKind(StrEnum):
    """Which units are compared: words, pairs of words, or the longest common subsequence."""

    ROUGE_1 = "rouge1"
    ROUGE_2 = "rouge2"
    ROUGE_L = "rougeL"


class Rouge:
    """One kind of ROUGE (C.-Y. Lin, 2004); equal words are stemmed once."""

    def __init__(self, kind: RougeKind) -> None:
        self._kind = kind.value
        self._scorer = rouge_scorer.RougeScorer([kind.value], tokenizer=_CachedTokenizer())

    def precision(self, label: str, generation: str) -> float:
        """Share of the generation's units found in `label`."""
        return float(self._score(label, generation).precision)

    def recall(self, label: str, generation: str) -> float:
        """Share of the label's units found in `generation`."""
        return float(self._score(label, generation).recall)

    def f1(self, label: str, generation: str) -> float:
        """2PR / (P + R); 0 where nothing is shared."""
        return float(self._score(label, generation).fmeasure)

    def _score(self, label: str, generation: str) -> Score:
        return self._scorer.score(target=label, prediction=generation)[self._kind]


class _CachedTokenizer(tokenizers.Tokenizer):
    """rouge-score's own tokenizer; labels and generations often recur."""

    def __init__(self) -> None:
        self._tokenize = lru_cache(maxsize=4096)(tokenizers.DefaultTokenizer(use_stemmer=True).tokenize)

    def tokenize(self, text: str) -> list[str]:
        """Lower-case stems of `text`."""
        return list(self._tokenize(text))


def rouge_l_recalls(answers: Sequence[str], replies: Sequence[str]) -> list[float]:
    """ROUGE-L recall of each reply (greedy, at most 200 new tokens) against its answer (TOFU).

    Raises:
        InvalidRequest: an answer that holds nothing that ROUGE can read, so that no reply could score.
    """
    rouge = Rouge(RougeKind.ROUGE_L)
    _refuse_unreadable(answers)
    return [rouge.recall(answer, reply) for answer, reply in zip(answers, replies, strict=True)]


def rouge_l_f1s(labels: Sequence[str], generations: Sequence[str]) -> list[float]:
    """ROUGE-L F1 of each generation against its label (MUSE, arXiv 2407.06460).

    Raises:
        InvalidRequest: a label that holds nothing that ROUGE can read.
    """
    rouge = Rouge(RougeKind.ROUGE_L)
    _refuse_unreadable(labels)
    return [rouge.f1(label, text) for label, text in zip(labels, generations, strict=True)]


def _refuse_unreadable(labels: Sequence[str]) -> None:
    for index, label in enumerate(labels):
        if not any(char.isascii() and char.isalnum() for char in label):
            raise InvalidRequest.of(
                f"answers[{index}]",
                "holds no letter a-z and no digit, and ROUGE reads nothing else; use extraction strength",
            )
