"""A replica holds what the registry wants, says what it holds, and lets nothing bad hold it up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from expunge.config import Settings
from expunge.errors import FailedPrecondition, Unavailable
from expunge.inference.engine import Engine
from expunge.inference.limits import EngineLimits
from expunge.inference.request import GenerationRequest
from expunge.inference.version_follower import VersionFollower
from expunge.lora.files import version_id
from expunge.models.load import LoadedModel
from expunge.registry.blobs import BlobStore
from expunge.registry.records import (
    MemberReport,
    Rollout,
    Snapshot,
    Target,
    VersionKind,
    VersionRecord,
)
from expunge.registry.service import RegistryService


@dataclass
class Replica:
    """A follower with its engine, a real registry and blob store, and versions in them."""

    registry: RegistryService
    engine: Engine
    follower: VersionFollower
    blobs: BlobStore
    base: VersionRecord
    good: VersionRecord
    damaged: VersionRecord
    folder: Path

    async def roll_out(self, version: VersionRecord) -> None:
        rollout = await self.registry.get_rollout("default")
        await self.registry.set_rollout(
            "default", [Target(version.id)], rollout.generation, "test", "tester", 10.0
        )


@pytest_asyncio.fixture
async def replica(
    loaded: LoadedModel, tiny_adapter_folders: tuple[Path, Path], tmp_path: Path
) -> AsyncIterator[Replica]:
    settings = Settings(state_dir=tmp_path / "state", cache_dir=tmp_path / "cache", adapter_slots=4)
    blobs = BlobStore(settings.resolved_blob_url)
    records = []
    for folder in tiny_adapter_folders:
        identity = version_id(folder)
        blobs.put_folder(folder, f"adapters/{identity}")
        records.append(
            VersionRecord(
                identity, VersionKind.ADAPTER, folder.name, loaded.digest, blob=f"adapters/{identity}"
            )
        )
    good, damaged = records
    blobs.put_bytes(f"{damaged.blob}/adapter_model.safetensors", b"nothing")
    base = VersionRecord(loaded.version, VersionKind.BASE, "base", loaded.digest)
    registry = RegistryService(settings, environment={})
    await registry.start()
    await registry.ensure_base(base)
    for record in records:
        await registry.put_version(record)
    engine = Engine(loaded, EngineLimits(slots=4, max_rank=8))
    engine.start()
    staging = settings.cache / "staging"
    follower = VersionFollower(registry, engine, blobs, "engine-0", staging)
    yield Replica(registry, engine, follower, blobs, base, good, damaged, staging)
    engine.close()
    await registry.close()


@contextlib.asynccontextmanager
async def following(replica: Replica) -> AsyncIterator[None]:
    task = asyncio.create_task(replica.follower.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def soon(awaitable: Awaitable[object]) -> None:
    await asyncio.wait_for(awaitable, 10)


async def test_it_is_ready_once_everything_wanted_is_staged(replica: Replica) -> None:
    async with following(replica):
        await soon(replica.follower.ready())
        assert replica.engine.staged() == (replica.base.id,)


async def test_it_follows_a_rollout_and_leaves_no_files(replica: Replica) -> None:
    async with following(replica):
        await replica.roll_out(replica.good)
        assert replica.good.id in replica.engine.staged()
        assert list(replica.folder.iterdir()) == []


async def test_a_version_that_cannot_be_staged_is_reported_and_harms_nothing(replica: Replica) -> None:
    async with following(replica):
        await soon(replica.follower.ready())
        with pytest.raises(FailedPrecondition, match="engine-0"):
            await replica.roll_out(replica.damaged)
        assert replica.engine.staged() == (replica.base.id,)
        assert list(replica.folder.iterdir()) == []
        await replica.roll_out(replica.good)
        assert replica.good.id in replica.engine.staged()


async def test_a_mended_version_is_staged_when_it_is_wanted_again(
    replica: Replica, tiny_adapter_folders: tuple[Path, Path]
) -> None:
    async with following(replica):
        with contextlib.suppress(FailedPrecondition):
            await replica.roll_out(replica.damaged)
        replica.blobs.put_folder(tiny_adapter_folders[1], replica.damaged.blob)
        await replica.roll_out(replica.damaged)
        assert replica.damaged.id in replica.engine.staged()


class Script:
    """A registry that gives one snapshot after the other; an error is raised in its turn."""

    def __init__(self, *answers: Snapshot | Exception) -> None:
        self._answers = list(answers)
        self.reports: list[MemberReport] = []
        self._reported = asyncio.Condition()

    async def watch(self, report: MemberReport, known_revision: int, timeout_s: float) -> Snapshot | None:
        async with self._reported:
            self.reports.append(report)
            self._reported.notify_all()
        if not self._answers:
            await asyncio.Event().wait()
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def leave(self, member: str) -> None:
        self.reports.append(MemberReport(member, self.reports[-1].kind, 0, leaving=True))

    async def until(self, revision: int, staged: set[str], failed: set[str]) -> None:
        """Wait for a report of exactly this."""

        def is_there() -> bool:
            told = [(report.revision, set(report.staged), set(report.failed)) for report in self.reports]
            return told[-1:] == [(revision, staged, failed)]

        async with self._reported:
            await self._reported.wait_for(is_there)


def snapshot(revision: int, active: VersionRecord, *wanted: VersionRecord) -> Snapshot:
    rollout = Rollout("default", revision, (Target(active.id),))
    return Snapshot(revision, "", (rollout,), (active, *wanted), (), ())


async def test_a_lost_registry_is_followed_again(replica: Replica) -> None:
    script = Script(Unavailable("gone"), snapshot(1, replica.base))
    replica.follower = VersionFollower(script, replica.engine, replica.blobs, "engine-0", replica.folder)
    async with following(replica):
        await soon(script.until(1, {replica.base.id}, set()))


async def test_a_bad_version_that_is_only_tried_does_not_hold_up_readiness(replica: Replica) -> None:
    script = Script(snapshot(1, replica.good, replica.damaged))
    replica.follower = VersionFollower(script, replica.engine, replica.blobs, "engine-0", replica.folder)
    async with following(replica):
        await soon(replica.follower.ready())
        await soon(script.until(1, {replica.good.id}, {replica.damaged.id}))
        assert replica.follower.longest_missing_s() == 0


async def test_an_active_version_that_is_missing_is_noticed(replica: Replica) -> None:
    now = [0.0]
    script = Script(snapshot(1, replica.damaged, replica.good))
    replica.follower = VersionFollower(
        script, replica.engine, replica.blobs, "engine-0", replica.folder, lambda: now[0]
    )
    async with following(replica):
        await soon(script.until(1, {replica.good.id}, {replica.damaged.id}))
        now[0] = 40.0
        assert replica.follower.longest_missing_s() == 40
        ready = asyncio.ensure_future(replica.follower.ready())
        await asyncio.wait([ready], timeout=0)
        assert not ready.done()
        ready.cancel()


async def test_a_version_that_was_just_replaced_still_takes_what_was_admitted_to_it(replica: Replica) -> None:
    script = Script(snapshot(1, replica.base, replica.good))
    replica.follower = VersionFollower(
        script, replica.engine, replica.blobs, "engine-0", replica.folder, linger_s=0.2
    )
    async with following(replica):
        await soon(replica.follower.ready())
        replica.follower._follow(snapshot(2, replica.good))
        await asyncio.sleep(0.05)
        request = GenerationRequest("late", replica.base.id, prompt="The", max_tokens=1)
        answer = [batch async for batch in replica.engine.generate(request)]
        assert answer[-1].version == replica.base.id
        replica.follower._follow(snapshot(3, replica.good, replica.base))  # wanted again in time
        await asyncio.sleep(0.4)
        assert replica.base.id in replica.engine.staged()


async def test_what_is_no_longer_wanted_is_unloaded(replica: Replica) -> None:
    script = Script(snapshot(1, replica.base, replica.good))
    replica.follower = VersionFollower(
        script, replica.engine, replica.blobs, "engine-0", replica.folder, linger_s=0.05
    )
    async with following(replica):
        await soon(script.until(1, {replica.base.id, replica.good.id}, set()))
        replica.follower._follow(snapshot(2, replica.good))
        await soon(script.until(2, {replica.good.id}, set()))
