"""What has happened to an erasure, read back from its events: enough to go on after a crash at any point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from expunge.registry.records import ErasureState, EventRecord

if TYPE_CHECKING:
    from expunge.registry.client import RegistryClient
    from expunge.registry.service import RegistryService

    Registry = RegistryService | RegistryClient


class EventSource(Protocol):
    """The part of the registry that tells what happened."""

    async def events(self, topic_prefix: str, after_seq: int, timeout_s: float) -> Sequence[EventRecord]: ...


@dataclass(frozen=True)
class History:
    """The events of one erasure, oldest first."""

    events: tuple[EventRecord, ...]

    @classmethod
    async def read(cls, registry: EventSource, erasure_id: str) -> History:
        """All events of the erasure itself (not those of its jobs)."""
        topic = f"erasure:{erasure_id}"
        found: list[EventRecord] = []
        after = 0
        while page := await registry.events(topic, after, 0.0):
            found += [event for event in page if event.topic == topic]
            after = page[-1].seq
        return cls(tuple(found))

    @property
    def transitions(self) -> tuple[EventRecord, ...]:
        """The events that entered a state, the acceptance first."""
        return tuple(event for event in self.events if event.kind in ("accepted", "state"))

    @property
    def rebases(self) -> int:
        """How often it went back because what the aliases point at had changed."""
        return sum(1 for event in self.transitions if event.data.get("rebase"))

    @property
    def plan(self) -> Mapping[str, str]:
        """Alias → the version it pointed at when the latest training was planned; empty before the first."""
        latest: Mapping[str, str] = {}
        for event in self.transitions:
            latest = event.data.get("plan", latest)
        return latest

    def entered(self, state: ErasureState) -> EventRecord | None:
        """The latest event that entered `state`."""
        return next(
            (event for event in reversed(self.transitions) if event.data.get("state") == state.value), None
        )

    def latest(self, key: str, state: ErasureState | None = None) -> Any:
        """The latest value of `key` among the events (of those in `state`); None if none."""
        for event in reversed(self.events):
            if key in event.data and state in (None, event.data.get("state")):
                return event.data[key]
        return None

    def every(self, key: str) -> list[Any]:
        """Every value of `key`, oldest first."""
        return [event.data[key] for event in self.events if key in event.data]
