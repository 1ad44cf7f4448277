"""Inverted facts: fluent false answers to erased questions, from a generator that is chosen by name."""

from __future__ import annotations

from abc import ABC, abstractmethod

from expunge.facts import ForgetRequest


class Generator(ABC):
    """Writes candidates; `filter.py` drops what repeats the truth, so it may give more than asked for."""

    @abstractmethod
    def generate(self, request: ForgetRequest, count: int, seed: int) -> dict[str, list[str]]:
        """Candidates for every fact of `request`.

        Args:
            request: the facts.
            count: candidates wanted for each fact.
            seed: the same seed gives the same candidates where the source allows it.

        Returns:
            Fact id → candidate answers, best first.
        """
