"""Extraction strength and exact memorisation of teacher-forced answers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from expunge.auditing.text_model import TextModel
from expunge.facts import Fact, QuestionAnswer


def extraction_strength(hits: Sequence[bool]) -> float:
    """ES = 1 − k/L, k the length of the shortest prefix after which every arg-max is right.

    k = L, hence ES = 0, where even the last token is wrong. Public code floors ES at 1/L instead, which
    inflates short answers.

    Args:
        hits: [L] whether the arg-max at each answer position is the answer's token.
    """
    if not hits:
        return 0.0
    run = 0
    for hit in reversed(hits):
        if not hit:
            break
        run += 1
    return run / len(hits)


def exact_memorisation(hits: Sequence[bool]) -> float:
    """EM: share of answer positions [L] whose teacher-forced arg-max is the answer's token."""
    return sum(hits) / len(hits) if hits else 0.0


@dataclass(frozen=True)
class Extraction:
    """Figures of one answer of `tokens` tokens; `mean_logprob` is in nats a token."""

    es: float
    em: float
    mean_logprob: float
    tokens: int

    @property
    def probability(self) -> float:
        """P(a|q)^{1/L}, the length-normalised probability of the answer."""
        return math.exp(self.mean_logprob)


def measure_extraction(
    model: TextModel, version: str, items: Iterable[Fact | QuestionAnswer]
) -> list[Extraction]:
    """ES and EM of each item's answer after its question in the chat template, in one batch."""
    pairs = [(model.chat_ids(item.question), model.encode(item.answer, special=False)) for item in items]
    measured = []
    for (_, answer), forced in zip(pairs, model.teacher_forced(pairs, version), strict=True):
        logprobs = forced.logprobs.tolist()
        hits = [best == token for best, token in zip(forced.argmax.tolist(), answer, strict=True)]
        mean = sum(logprobs) / len(logprobs) if logprobs else 0.0
        measured.append(Extraction(extraction_strength(hits), exact_memorisation(hits), mean, len(answer)))
    return measured
