"""Events: everything that happened, in order, for whoever follows."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from expunge.registry import schema
from expunge.registry.core import Core
from expunge.registry.records import EventRecord

PAGE = 500  # events of one answer at most


class Events(Core):
    """The part of the registry that tells what happened."""

    async def events(self, topic_prefix: str, after_seq: int, timeout_s: float) -> list[EventRecord]:
        """Events after `after_seq` whose topic begins with `topic_prefix`, oldest first, 500 at most.

        Waits up to `timeout_s` for the first one; empty when there was none. "" follows everything. Safe to
        repeat: it only reads.
        """
        if not self.hub.holds_events_after(after_seq):
            if stored := await self.read(lambda connection: _stored(connection, topic_prefix, after_seq)):
                return stored
            after_seq = max(after_seq, 0)
        found: list[EventRecord] = []

        def look() -> bool:
            found[:] = self.hub.events_after(after_seq, topic_prefix)[:PAGE]
            return bool(found)

        await self.hub.events_added.wait_until(look, timeout_s)
        return found


def _stored(connection: Connection, topic_prefix: str, after_seq: int) -> list[EventRecord]:
    table = schema.events
    statement = sa.select(table).where(table.c.seq > after_seq).order_by(table.c.seq)
    if topic_prefix:
        statement = statement.where(table.c.topic.startswith(topic_prefix, autoescape=True))
    found: list[EventRecord] = []
    for row in connection.execute(statement.execution_options(yield_per=PAGE)):
        # LIKE ignores case in some databases
        if row.topic.startswith(topic_prefix):
            found.append(EventRecord(row.seq, row.at, row.topic, row.kind, row.principal, dict(row.data)))
        if len(found) == PAGE:
            break
    return found
