"""Inverted facts by substitution: the true sentence with every telling value replaced by one of its type."""

from __future__ import annotations

import random

from expunge.facts import Fact, ForgetRequest
from expunge.unlearning.inverted_facts.base import Generator
from expunge.unlearning.inverted_facts.values import Span, Values, typed_spans
from expunge.unlearning.sequences import telling_words

_SPARE = 3  # draws for each candidate wanted, for those that come out alike


class Substitution(Generator):
    """The dependable source: needs no model, keeps the answer's form, changes all that it tells."""

    def __init__(self) -> None:
        self._values = Values()

    def generate(self, request: ForgetRequest, count: int, seed: int) -> dict[str, list[str]]:
        return {fact.id: self._invert(fact, count, seed) for fact in request.facts}

    def _invert(self, fact: Fact, count: int, seed: int) -> list[str]:
        draw = random.Random(f"{seed}/{fact.id}")
        spans = _replaced(fact)
        made = (self._write(fact.answer, spans, draw) for _ in range(count * _SPARE))
        return list(dict.fromkeys(made))[:count]

    def _write(self, answer: str, spans: list[Span], draw: random.Random) -> str:
        parts: list[str] = []
        used: set[str] = set()
        end = 0
        for span in spans:
            value = self._values.like(span, draw, frozenset(used))
            used.add(value)
            parts += [answer[end : span.start], value]
            end = span.end
        return "".join([*parts, answer[end:]])


def _replaced(fact: Fact) -> list[Span]:
    """Typed spans and plain words inside explicit secrets; all telling words where there are none."""
    spans = typed_spans(fact.answer, frozenset(telling_words(fact)))
    inside = [(fact.answer.find(secret), fact.answer.find(secret) + len(secret)) for secret in fact.secrets]
    typed = [
        span
        for span in spans
        if span.kind != "word" or any(start <= span.start < end for start, end in inside)
    ]
    return typed or spans
