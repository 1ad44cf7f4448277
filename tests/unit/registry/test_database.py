"""Writes and reads of the database, in the order in which others notice them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from expunge.registry.database import Database

HELD_BACK_S = (
    0.2  # longer than a read takes that does not wait; if it takes longer, this test is merely weaker
)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'state.db'}")
    await database.write(
        lambda connection: connection.execute(sa.text("create table t (n int)")), lambda: None
    )
    yield database
    await database.close()


def insert(connection: Connection) -> None:
    connection.execute(sa.text("insert into t values (1)"))


async def test_whoever_reads_a_write_was_told_of_it_before(database: Database) -> None:
    has_committed, has_seen, has_read = (threading.Event() for _ in range(3))
    order: list[str] = []

    def tell() -> None:
        has_committed.set()
        assert has_seen.wait(30)
        has_read.wait(HELD_BACK_S)
        order.append("told")

    def look(connection: Connection) -> int:
        count = int(connection.execute(sa.text("select count(*) from t")).scalar_one())
        has_seen.set()
        return count

    writing = asyncio.create_task(database.write(insert, tell))
    assert await asyncio.to_thread(has_committed.wait, 30)
    found = await database.read(look)
    order.append("read")
    has_read.set()
    await writing
    assert found == 1
    assert order == ["told", "read"]


async def test_a_write_that_fails_leaves_reads_free(database: Database) -> None:
    def fail(connection: Connection) -> None:
        insert(connection)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await database.write(fail, lambda: None)
    count = await asyncio.wait_for(
        database.read(lambda connection: connection.execute(sa.text("select count(*) from t")).scalar_one()),
        30,
    )
    assert count == 0
