"""When a failed call is tried again: only where the service was unavailable, and only within the timeout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from expunge.client.failures import CallError, Unavailable


@dataclass(frozen=True)
class RetryPolicy:
    """How often and after which pauses a call is tried again.

    The pause before the k-th retry is drawn evenly from the upper half of `first_s` · 2^(k-1), at most
    `longest_s`; a pause that the service itself names is kept, and drawn out by up to a tenth.

    Attributes:
        retries: most retries of one call; 0: none.
    """

    retries: int = 4
    first_s: float = 0.1
    longest_s: float = 5.0

    def pause_s(self, retry: int, retry_after_s: float | None, draw: float) -> float:
        """Seconds before retry number `retry` (from 1); `draw` is uniform in [0, 1)."""
        if retry_after_s is not None:
            return retry_after_s * (1 + 0.1 * draw)
        return min(self.first_s * 2.0 ** (retry - 1), self.longest_s) * (0.5 + 0.5 * draw)


DEFAULT_RETRIES = RetryPolicy()
NO_RETRIES = RetryPolicy(retries=0)


class Attempts:
    """The tries of one call, all within one deadline.

    Args:
        clock: monotonic seconds.
        draw: uniform random numbers in [0, 1).
    """

    def __init__(
        self, policy: RetryPolicy, timeout_s: float, clock: Callable[[], float], draw: Callable[[], float]
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._draw = draw
        self._deadline = clock() + timeout_s
        self._retries = 0

    def remaining_s(self) -> float:
        """What is left of the timeout, for the next try."""
        return max(0.0, self._deadline - self._clock())

    def pause_after(self, failure: CallError) -> float:
        """Seconds to wait before the next try.

        Raises:
            CallError: `failure` itself; trying again is no use, too often, or too late.
        """
        if not isinstance(failure, Unavailable) or self._retries >= self._policy.retries:
            raise failure
        self._retries += 1
        pause = self._policy.pause_s(self._retries, failure.retry_after_s, self._draw())
        if pause >= self.remaining_s():
            raise failure
        return pause
