"""A replica's follower with its engine, and the registry that it follows: the real one, or one by script."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from pathlib import Path

from expunge.inference.engine import Engine
from expunge.inference.version_follower import VersionFollower
from expunge.registry.blobs import BlobStore
from expunge.registry.records import MemberReport, Rollout, Snapshot, Target, VersionRecord
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


class Pause:
    """A sleep that ends when the test says so."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.over = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        self.begun.set()
        await self.over.wait()
