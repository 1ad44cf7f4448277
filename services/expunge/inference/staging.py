"""Bringing versions into an engine and out of it, while it serves."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from expunge.inference.background import background_thread
from expunge.inference.residents import Residents
from expunge.inference.version_files import check_base, read_version
from expunge.lora.adapter import Adapter
from expunge.lora.shape import ModelShape
from expunge.registry.records import VersionKind, VersionRecord

T = TypeVar("T")


class Staging(ABC):
    """What every backend does around its own way of taking versions in and giving them up.

    Files are read and checked off the event loop. A version may be used once `_install` is through, and is
    taken out once its last use has ended.
    """

    def __init__(self, digest: str, shape: ModelShape, residents: Residents, max_rank: int) -> None:
        self._digest = digest
        self._shape = shape
        self._residents = residents
        self._max_rank = max_rank
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._background = background_thread("staging")

    async def load(self, record: VersionRecord, folder: Path | None) -> None:
        """Make `record` resident; see `Backend.load_version`."""
        if self._residents.revive(record.id):
            return
        async with self._locks[record.id]:
            if self._residents.revive(record.id):
                return
            check_base(record, self._digest)
            adapter = None
            if record.kind is VersionKind.ADAPTER:
                adapter = await self._aside(lambda: read_version(record, folder, self._shape, self._max_rank))
            self._residents.add(record.id, await self._install(record.id, adapter))

    async def unload(self, version: str) -> bool:
        """Let `version` go once nothing uses it; see `Backend.unload_version`."""
        async with self._locks[version]:
            unused = self._residents.retire(version)
            if unused is None or not await asyncio.wrap_future(unused):
                return False
            await self._remove(version)
            self._residents.remove(version)
            return True

    def _aside(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Do `work` in a thread that gives way to the engine's steps."""
        return asyncio.get_running_loop().run_in_executor(self._background, work)

    @abstractmethod
    async def _install(self, version: str, adapter: Adapter | None) -> int:
        """Take a version in and check what it computes; returns its slot. None: the base version.

        Raises:
            InvalidAdapter: it does not compute as it should; nothing is left of it.
            FailedPrecondition: no slot is free.
        """

    @abstractmethod
    async def _remove(self, version: str) -> None:
        """Give up a version that nothing uses any more."""
