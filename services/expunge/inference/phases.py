"""How long one request waited, was prefilled and was decoded."""

from __future__ import annotations

from collections.abc import Callable


class Phases:
    """Begins with the request's arrival. Each phase ends once; what did not end is None.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._arrived_at = clock()
        self._begun_at: float | None = None
        self._answered_at: float | None = None

    def begin(self) -> None:
        """The prefill begins; later pieces of it change nothing."""
        if self._begun_at is None:
            self._begun_at = self._clock()

    def answer(self) -> None:
        """The first result is there; later ones change nothing."""
        if self._answered_at is None:
            self._answered_at = self._clock()

    @property
    def queue_s(self) -> float | None:
        return None if self._begun_at is None else self._begun_at - self._arrived_at

    @property
    def prefill_s(self) -> float | None:
        if self._begun_at is None or self._answered_at is None:
            return None
        return self._answered_at - self._begun_at

    @property
    def decode_s(self) -> float | None:
        """From the first result to now."""
        return None if self._answered_at is None else self._clock() - self._answered_at
