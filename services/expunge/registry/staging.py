"""Versions that must be resident although no rollout points at them (yet)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from expunge.registry.records import VersionRecord


@dataclass
class _Hold:
    version: VersionRecord
    since: float  # monotonic seconds
    users: int = 0  # rollout changes under way
    pinned: bool = False  # asked for by `stage`


class Staging:
    """Counts who needs a version resident. In memory: after a restart callers ask again."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._holds: dict[str, _Hold] = {}

    def held(self) -> tuple[VersionRecord, ...]:
        return tuple(hold.version for hold in self._holds.values())

    def since(self, version: str) -> float:
        """Monotonic seconds at which it was first asked for; now, when it is not held."""
        hold = self._holds.get(version)
        return hold.since if hold else self._monotonic()

    def acquire(self, version: VersionRecord) -> None:
        self._hold(version).users += 1

    def release(self, version: str) -> None:
        hold = self._holds[version]
        hold.users -= 1
        self._drop_if_unused(version)

    def pin(self, version: VersionRecord) -> None:
        self._hold(version).pinned = True

    def unpin(self, version: str) -> None:
        if version in self._holds:
            self._holds[version].pinned = False
            self._drop_if_unused(version)

    def _hold(self, version: VersionRecord) -> _Hold:
        return self._holds.setdefault(version.id, _Hold(version, self._monotonic()))

    def _drop_if_unused(self, version: str) -> None:
        hold = self._holds[version]
        if not hold.users and not hold.pinned:
            del self._holds[version]
