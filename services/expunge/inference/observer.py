"""Who is told what an engine does, as it happens; the rest is in `EngineStats`."""

from __future__ import annotations

from typing import Protocol


class EngineObserver(Protocol):
    """May be called from any thread and must not block."""

    def step_taken(self, seconds: float, rows: int) -> None:
        """The engine has made a turn, with `rows` requests running at its beginning."""

    def request_ended(
        self, version: str, queue_s: float | None, prefill_s: float | None, decode_s: float | None
    ) -> None:
        """A request is over; None for a phase that it did not come to the end of, or does not have."""

    def version_loaded(self, seconds: float) -> None:
        """A version was staged."""

    def load_failed(self) -> None:
        """An attempt to stage a version failed."""


class Unobserved:
    """Nobody is told."""

    def step_taken(self, seconds: float, rows: int) -> None: ...

    def request_ended(
        self, version: str, queue_s: float | None, prefill_s: float | None, decode_s: float | None
    ) -> None: ...

    def version_loaded(self, seconds: float) -> None: ...

    def load_failed(self) -> None: ...
