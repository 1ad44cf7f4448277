"""One write: its connection, its time, and the events that are stored with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from expunge.registry import schema
from expunge.registry.records import EventRecord


class Transaction:
    """A connection inside a transaction. `now` is seconds since the epoch, the same for the whole write."""

    def __init__(self, connection: Connection, now: float) -> None:
        self.connection = connection
        self.now = now
        self.events: list[EventRecord] = []
        self.revision = 0  # the new snapshot revision, once `change_snapshot` was called
        self.rolled_out: set[str] = set()  # aliases whose rollout this write sets, so known to meet the floor
        self.unroutable: set[str] = set()  # members that leave routing with this write
        self.moves_canary = False  # whether a canary has to be looked at again
        self.committed_at = 0.0  # monotonic seconds, once it is committed

    def execute(self, statement: sa.Executable) -> sa.CursorResult[Any]:
        return self.connection.execute(statement)

    def add_event(
        self, topic: str, kind: str, data: Mapping[str, Any] | None = None, principal: str = "registry"
    ) -> None:
        """Store an event. `data` must be free of fact text."""
        data = dict(data or {})
        statement = (
            schema.events.insert()
            .values(at=self.now, topic=topic, kind=kind, principal=principal, data=data)
            .returning(schema.events.c.seq)
        )
        seq = int(self.execute(statement).scalar_one())
        self.events.append(EventRecord(seq, self.now, topic, kind, principal, data))

    def change_snapshot(self, at_least: int = 0) -> int:
        """Say that this write changes what snapshots show; returns their new revision.

        The revision rises once a transaction, to `at_least` or by one.
        """
        if not self.revision:
            current = self.execute(sa.select(schema.service.c.revision)).scalar_one()
            self.revision = max(int(current) + 1, at_least)
            self.execute(schema.service.update().values(revision=self.revision))
        return self.revision
