"""What the registry has published: the current snapshot, the latest events, and who waits for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from expunge.registry.records import EventRecord, Snapshot
from expunge.registry.signals import Signal

RECENT_EVENTS = 4096


class Hub:
    """Lives on the service's event loop; only published, that is committed, changes get here."""

    def __init__(self) -> None:
        self.snapshot = Snapshot(0, "", (), (), (), ())
        self.snapshot_changed = Signal()
        self.members_changed = Signal()
        self.events_added = Signal()
        self.canaries_changed = Signal()
        self.canary_changes = 0
        self.latest_seq = 0
        self._recent: deque[EventRecord] = deque(maxlen=RECENT_EVENTS)

    def publish_snapshot(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.snapshot_changed.notify()

    def publish_events(self, events: Sequence[EventRecord]) -> None:
        if events:
            self._recent.extend(events)
            self.latest_seq = events[-1].seq
            self.events_added.notify()

    def publish_canaries(self) -> None:
        """Have the canaries looked at again."""
        self.canary_changes += 1
        self.canaries_changed.notify()

    def holds_events_after(self, seq: int) -> bool:
        """Whether every event after `seq` is still in memory."""
        oldest = self._recent[0].seq if self._recent else self.latest_seq + 1
        return seq >= oldest - 1

    def events_after(self, seq: int, topic_prefix: str) -> list[EventRecord]:
        """Events in memory after `seq` whose topic begins so, oldest first."""
        found: list[EventRecord] = []
        for event in reversed(self._recent):
            if event.seq <= seq:
                break
            if event.topic.startswith(topic_prefix):
                found.append(event)
        return found[::-1]
