"""The guard check as the gateway uses it; matching itself belongs to `erasures`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from expunge.inference.request import Message
from expunge.registry.records import Guard


class Guards(Protocol):
    """Tells whether a text is in the scope of a suppressed erasure."""

    def match(self, text: str, passing: frozenset[str] = frozenset()) -> str | None: ...

    def match_messages(
        self, messages: Sequence[Message], passing: frozenset[str] = frozenset()
    ) -> str | None: ...

    def match_score(
        self, context: str, continuation: str, passing: frozenset[str] = frozenset()
    ) -> str | None: ...


BuildGuards = Callable[[Sequence[Guard]], Guards]


@dataclass(frozen=True)
class Scope:
    """What of a request the guards look at, and which erasures' guards it passes."""

    text: str = ""
    continuation: str = ""  # after `text`, of a request to score
    messages: tuple[Message, ...] = ()
    passing: frozenset[str] = frozenset()
    readings: tuple[Scope, ...] = ()  # the same as the model reads it, where that is another text

    def matched_by(self, guards: Guards, answer: str = "") -> str | None:
        """Id of the erasure in whose scope the request, or the answer written so far, is; else None."""
        found = (scope._matched_by(guards, answer) for scope in (self, *self.readings))
        return next((erasure_id for erasure_id in found if erasure_id is not None), None)

    def _matched_by(self, guards: Guards, answer: str) -> str | None:
        if self.continuation:
            return guards.match_score(self.text, self.continuation, passing=self.passing)
        if self.messages:
            turns = (*self.messages, Message("assistant", answer)) if answer else self.messages
            return guards.match_messages(turns, passing=self.passing)
        return guards.match(f"{self.text}{answer}", passing=self.passing)
