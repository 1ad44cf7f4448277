"""What one client may take of a gateway: requests at a time, and tokens a minute out of a bucket."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from expunge.config import Settings
from expunge.inference.request import Priority

_SECONDS_PER_MINUTE = 60.0


@dataclass(frozen=True)
class Quota:
    """What one principal may take of each gateway process; N gateways multiply it.

    Attributes:
        max_concurrent: answers under way at once.
        tokens_per_minute: prompt and generated tokens together, on average; 0: no limit.
        burst_tokens: most of them at once; 0: as many as a minute's.
        priority: the highest that is granted; whoever asks for more gets this one.
    """

    max_concurrent: int = 64
    tokens_per_minute: int = 0
    burst_tokens: int = 0
    priority: Priority = Priority.INTERACTIVE

    @classmethod
    def of(cls, settings: Settings) -> Quota:
        """What clients get for which the tokens file says nothing else."""
        return cls(
            settings.client_max_concurrent, settings.client_tokens_per_minute, settings.client_burst_tokens
        )

    @property
    def burst(self) -> int:
        return self.burst_tokens or self.tokens_per_minute

    def granted(self, asked: Priority) -> Priority:
        """The priority that a request gets which asks for `asked`."""
        return asked if self.priority is Priority.INTERACTIVE else Priority.BATCH


class TokenBucket:
    """Tokens that flow in at a steady rate and never exceed the burst.

    More may turn out to have been used than was taken. That is owed, and paid from what flows in before
    anybody can take again.

    Args:
        per_minute: tokens that flow in.
        burst: most that it holds; it begins full.
        clock: monotonic seconds.
    """

    def __init__(self, per_minute: int, burst: int, clock: Callable[[], float]) -> None:
        self._per_second = per_minute / _SECONDS_PER_MINUTE
        self._burst = float(burst)
        self._clock = clock
        self._balance = self._burst  # below zero: owed
        self._as_of = clock()

    @property
    def level(self) -> float:
        """Tokens that can be taken now, from 0 to the burst."""
        return max(0.0, self._balance_now())

    @property
    def is_full(self) -> bool:
        return self._balance_now() >= self._burst

    def seconds_until(self, tokens: int) -> float:
        """How long until `tokens` can be taken, if nobody else takes any; infinite above the burst."""
        if tokens > self._burst:
            return float("inf")
        return max(0.0, tokens - self._balance_now()) / self._per_second

    def take(self, tokens: int) -> None:
        """Take what `seconds_until` says is there.

        Raises:
            ValueError: it is not there yet.
        """
        if tokens > self.level:
            raise ValueError(f"{tokens} tokens were asked of a bucket that holds {self.level:.0f}")
        self._set(self._balance_now() - tokens)

    def settle(self, taken: int, used: int) -> None:
        """Put back what was taken and not used; or owe what was used beyond it."""
        self._set(self._balance_now() + taken - used)

    def _balance_now(self) -> float:
        return min(self._burst, self._balance + (self._clock() - self._as_of) * self._per_second)

    def _set(self, balance: float) -> None:
        self._balance = min(self._burst, balance)
        self._as_of = self._clock()
