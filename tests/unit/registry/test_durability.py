from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import expunge.registry.migrations as migrations
from expunge.config import Settings
from expunge.errors import ConfigError, FailedPrecondition, Unavailable
from expunge.registry import schema
from expunge.registry.database import Database
from expunge.registry.records import JobKind, JobRecord, JobState, Target, Verdict
from expunge.registry.service import RegistryService

from .conftest import POLICY, Follow, Open, accept, forget, make_live, meet, put_adapters


async def test_everything_is_there_after_a_restart(
    open_registry: Open, registry: RegistryService, follow: Follow
) -> None:
    engine = await follow(registry, "engine-0")
    await put_adapters(registry, "a", "b")
    live = await make_live(registry, "a")
    waiting = await accept(registry, "request-2")
    await registry.create_job(JobRecord("job-1", JobKind.AUDIT, JobState.QUEUED, waiting.id, spec={"n": 1}))
    await registry.put_audit("audit-1", "sha-a", waiting.id, {"passed": True})
    before = registry.hub.snapshot
    history = await registry.rollout_history("default")
    await engine.stop()

    registry = await open_registry()
    after = registry.hub.snapshot
    assert (after.rollouts, after.guards, after.floor) == (before.rollouts, before.guards, before.floor)
    assert (after.wanted, after.base_version) == (before.wanted, before.base_version)
    assert after.floor == (live.id,)
    assert await registry.rollout_history("default") == history
    assert (await registry.get_erasure(waiting.id, with_request=True)).request == forget("request-2")
    assert (await registry.get_job("job-1", with_payload=True)).spec == {"n": 1}
    assert (await registry.get_audit("audit-1")).report == {"passed": True}
    assert await registry.get_policy() == POLICY
    assert (await accept(registry, "request-2")).id == waiting.id
    assert await registry.unmet("sha-b") == (live.id,)


async def test_migrations_build_the_schema_of_the_code(registry: RegistryService, settings: Settings) -> None:
    engine = sa.create_engine(settings.resolved_database_url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []
    engine.dispose()
    scripts = ScriptDirectory(str(migrations.__path__[0]))
    assert scripts.get_current_head() == migrations.HEAD


async def test_a_database_of_the_first_schema_is_brought_up_with_all_it_holds(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'old.db'}"
    engine = sa.create_engine(url)
    config = Config()
    config.set_main_option("script_location", str(migrations.__path__[0]))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(schema.aliases.insert().values(alias="default", generation=7))
    assert not sa.inspect(engine).has_table("canaries")
    database = Database(url)
    await database.migrate()
    await database.close()
    with engine.connect() as connection:
        assert connection.execute(sa.select(schema.aliases.c.generation)).scalar_one() == 7
        assert connection.execute(sa.select(schema.canaries)).all() == []
    engine.dispose()


async def test_a_cancelled_caller_leaves_a_whole_write(registry: RegistryService) -> None:
    task = asyncio.create_task(accept(registry))
    await asyncio.sleep(0)  # it has handed its write to the writer thread
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    erasure = await accept(registry)  # waits behind the cancelled one, and finds it
    assert [guard.erasure_id for guard in registry.hub.snapshot.guards] == [erasure.id]
    assert len(await registry.events("erasure:", 0, 0.0)) == 1


async def test_a_full_disk_is_unavailable_with_nothing_half_done(
    registry: RegistryService, follow: Follow
) -> None:
    await put_adapters(registry, "a")
    await follow(registry, "engine-0")
    snapshot = registry.hub.snapshot

    used = await registry.read(lambda c: int(c.exec_driver_sql("PRAGMA page_count").scalar_one()))

    def limit(connection: sqlite3.Connection, _record: object, _proxy: object) -> None:
        connection.execute(f"PRAGMA max_page_count={used}")

    engine = registry._database.engine
    sa.event.listen(engine, "checkout", limit)
    try:
        big = forget(answer="x" * 300_000)
        with pytest.raises(Unavailable, match="full"):
            await registry.create_erasure(big, ["default"], "operator")
    finally:
        sa.event.remove(engine, "checkout", limit)
    assert await registry.list_erasures() == []
    assert await registry.events("erasure:", 0, 0.0) == []
    assert registry.hub.snapshot == snapshot


async def test_a_database_that_can_not_be_opened_is_unavailable(settings: Settings) -> None:
    (settings.state / "expunge.db").write_bytes(b"this is no database" * 100)
    service = RegistryService(settings, environment={})
    with pytest.raises(Unavailable, match="not a database"):
        await service.start()
    await service.close()


async def test_a_missing_or_wrong_master_key_stops_the_start(open_registry: Open, settings: Settings) -> None:
    registry = await open_registry()
    await accept(registry)
    key = settings.resolved_master_key_file
    right = key.read_text()
    key.unlink()
    with pytest.raises(ConfigError, match="missing"):
        await open_registry()
    assert not key.exists()
    key.write_text("A" * 43 + "=")
    with pytest.raises(ConfigError, match="not the one"):
        await open_registry()
    key.write_text(right)
    assert len((await open_registry()).hub.snapshot.guards) == 1


async def test_a_failed_flip_leaves_the_floor_alone(registry: RegistryService, follow: Follow) -> None:
    engine = await follow(registry, "engine-0")
    engine.failing["sha-a"] = "bad file"
    await put_adapters(registry, "a")
    erasure = await accept(registry)
    await meet(registry, "a", erasure)
    with pytest.raises(FailedPrecondition):
        await registry.set_rollout("default", [Target("sha-a")], 1, "r", "p", 5.0, erasure.id)
    assert registry.hub.snapshot.floor == ()
    assert await registry.list_verdicts("sha-a") == [
        Verdict("sha-a", erasure.id, POLICY, True, "audit-a"),
    ]
