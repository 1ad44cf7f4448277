"""How fast answers come at present, measured where requests are admitted."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

_WEIGHT = 0.2  # of a new measurement in the mean
_HALF_LIFE_S = 10.0  # in which what a mean has above the fastest halves, while nothing new is measured
_KEPT = 512  # kinds of requests that are remembered
_LENGTHS = (64, 256, 1024)  # prompts up to so many tokens are one kind


@dataclass(frozen=True)
class Kind:
    """Requests that should take equally long: one alias and version, prompts of like length."""

    alias: str
    version: str
    length: int

    @classmethod
    def of(cls, alias: str, version: str, prompt_tokens: int) -> Kind:
        return cls(alias, version, sum(prompt_tokens > length for length in _LENGTHS))


@dataclass
class _Measured:
    """Times of one kind: the mean that gives recent ones more weight, and the least, in seconds."""

    mean_s: float
    fastest_s: float
    at: float
    token_s: float | None = None


class Pace:
    """Expects of the next request what the last ones of its kind took.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._measured: OrderedDict[Kind, _Measured] = OrderedDict()
        self._awaiting: dict[Kind, int] = {}

    def first_token_s(self, kind: Kind) -> float | None:
        """Seconds to the first token of a request that begins now; None where nothing is known.

        Where no other waits for its first token, nothing holds it up: it is expected as fast as the fastest.
        Otherwise the mean counts, less so the longer ago it was measured: a load that is over, and the
        refusals it led to, must not go on by themselves.
        """
        measured = self._measured.get(kind)
        if measured is None:
            return None
        if not self._awaiting.get(kind):
            return measured.fastest_s
        faded = math.exp2((measured.at - self._clock()) / _HALF_LIFE_S)
        return measured.fastest_s + (measured.mean_s - measured.fastest_s) * faded

    def answer_s(self, kind: Kind, tokens: int) -> float | None:
        """Seconds to the last of `tokens` tokens; None where nothing is known."""
        first_s, measured = self.first_token_s(kind), self._measured.get(kind)
        if first_s is None or measured is None or measured.token_s is None:
            return None
        return first_s + measured.token_s * max(0, tokens - 1)

    def begin(self, kind: Kind) -> Stopwatch:
        """Time one request, from now on."""
        self._awaiting[kind] = self._awaiting.get(kind, 0) + 1
        return Stopwatch(self, kind, self._clock)

    def _saw_first_token(self, kind: Kind, seconds: float) -> None:
        self._stopped_waiting(kind)
        measured = self._measured.get(kind)
        if measured is None:
            self._measured[kind] = _Measured(seconds, seconds, self._clock())
            if len(self._measured) > _KEPT:
                self._measured.popitem(last=False)
            return
        self._measured.move_to_end(kind)
        measured.mean_s += _WEIGHT * (seconds - measured.mean_s)
        measured.fastest_s = min(measured.fastest_s, seconds)
        measured.at = self._clock()

    def _saw_token(self, kind: Kind, seconds: float) -> None:
        measured = self._measured.get(kind)
        if measured is not None:
            before = seconds if measured.token_s is None else measured.token_s
            measured.token_s = before + _WEIGHT * (seconds - before)

    def _stopped_waiting(self, kind: Kind) -> None:
        left = self._awaiting[kind] - 1
        if left:
            self._awaiting[kind] = left
        else:
            del self._awaiting[kind]


class Stopwatch:
    """Times one request; `stop` it in any case."""

    def __init__(self, pace: Pace, kind: Kind, clock: Callable[[], float]) -> None:
        self._pace = pace
        self._kind = kind
        self._clock = clock
        self._last_at = clock()
        self._has_begun = False
        self._is_stopped = False

    def tokens(self, count: int) -> None:
        """`count` tokens came."""
        if not count or self._is_stopped:
            return
        now = self._clock()
        if self._has_begun:
            self._pace._saw_token(self._kind, (now - self._last_at) / count)
        else:
            self._pace._saw_first_token(self._kind, now - self._last_at)
        self._has_begun, self._last_at = True, now

    def stop(self) -> None:
        """No more tokens come."""
        if not self._has_begun and not self._is_stopped:
            self._pace._stopped_waiting(self._kind)
        self._is_stopped = True
