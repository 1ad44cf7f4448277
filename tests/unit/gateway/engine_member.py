"""A real engine on the tiny model that follows the registry, in the test's own process."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from expunge.inference.engine import Engine
from expunge.registry.blobs import BlobStore
from expunge.registry.records import MemberKind, MemberReport, VersionKind, VersionRecord
from expunge.registry.service import RegistryService


class EngineMember:
    """Stages what the registry wants, and reports it."""

    def __init__(self, engine: Engine, registry: RegistryService, blobs: BlobStore, folder: Path) -> None:
        self._engine = engine
        self._registry = registry
        self._blobs = blobs
        self._folder = folder
        self._task: asyncio.Task[None] | None = None
        self._staged = asyncio.Event()

    async def start(self) -> None:
        """Returns once the first wanted versions are staged: before that no gateway may send anything."""
        self._engine.start()
        self._task = asyncio.create_task(self._follow())
        staged = asyncio.create_task(self._staged.wait())
        await asyncio.wait((staged, self._task), return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            staged.cancel()
            self._task.result()

    async def stop(self) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._engine.close()

    async def _follow(self) -> None:
        known = -1
        while True:
            report = MemberReport(
                "engine-0",
                MemberKind.ENGINE,
                max(known, 0),
                staged=self._engine.staged(),
                address="in process",
            )
            snapshot = await self._registry.watch(report, known, 1.0)
            if snapshot is None:
                continue
            for record in snapshot.wanted:
                if record.id not in self._engine.staged():
                    await self._engine.load_version(record, await self._fetch(record))
            known = snapshot.revision
            self._staged.set()

    async def _fetch(self, record: VersionRecord) -> Path | None:
        if record.kind is VersionKind.BASE:
            return None
        folder = self._folder / record.id
        return await asyncio.to_thread(self._blobs.fetch_folder, record.blob, folder)
