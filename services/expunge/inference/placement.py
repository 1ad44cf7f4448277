"""Where one request may not go; travels with it, for the router to read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

REPLICA = "replica"  # under this key a refusal's metadata name who refused
REFUSAL_S = 1.0  # for so long a replica that refused a version is asked for it after all others only
_KEPT = 1024  # refusals; more pairs of replica and version than these are not routed at one time


@dataclass(frozen=True)
class Placement:
    """Names of engine replicas, as they are registered.

    Attributes:
        left_out: must not be asked: unroutable, or they have refused this very request.
        avoided: are asked only where nobody else is left: they refused the version a moment ago.
    """

    left_out: frozenset[str] = frozenset()
    avoided: frozenset[str] = frozenset()


class Refusals:
    """Which replicas refused which version a moment ago.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until: dict[tuple[str, str], float] = {}  # (version, replica), oldest first

    def note(self, replica: str, version: str) -> None:
        self._until.pop((version, replica), None)
        self._until[version, replica] = self._clock() + REFUSAL_S
        while len(self._until) > _KEPT:
            del self._until[next(iter(self._until))]

    def of(self, version: str) -> frozenset[str]:
        """The replicas that refused `version` less than `REFUSAL_S` ago."""
        now = self._clock()
        while self._until and next(iter(self._until.values())) <= now:
            del self._until[next(iter(self._until))]
        return frozenset(replica for refused, replica in self._until if refused == version)
