"""Bringing versions into the engine and out of it, while it serves."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from expunge.errors import InvalidAdapter
from expunge.inference.engine_thread import EngineThread
from expunge.inference.residents import Residents
from expunge.inference.soundness import SoundnessCheck
from expunge.inference.version_files import check_base, read_version
from expunge.lora.adapter import Adapter
from expunge.lora.slots import SlotTable
from expunge.models.load import LoadedModel
from expunge.registry.records import VersionKind, VersionRecord


class Staging:
    """Loads and unloads versions while the engine steps on.

    Files are read and tensors copied off the engine's thread; the first run is part of an ordinary step.
    `forget` is called with a version that leaves, on the engine's thread.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        table: SlotTable,
        residents: Residents,
        thread: EngineThread,
        max_rank: int,
        forget: Callable[[str], None],
    ) -> None:
        self._digest = loaded.digest
        self._probe = int(loaded.tokenizer.eos_token_id)
        self._table = table
        self._residents = residents
        self._thread = thread
        self._max_rank = max_rank
        self._forget = forget
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

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
                adapter = await asyncio.to_thread(
                    read_version, record, folder, self._table.shape, self._max_rank
                )
            await self._install(record.id, adapter)

    async def unload(self, version: str) -> bool:
        """Let `version` go once nothing uses it; see `Backend.unload_version`."""
        async with self._locks[version]:
            unused = self._residents.retire(version)
            if unused is None or not await asyncio.wrap_future(unused):
                return False
            await asyncio.wrap_future(self._thread.call(lambda: self._remove(version)))
            return True

    async def _install(self, version: str, adapter: Adapter | None) -> None:
        occupying = asyncio.ensure_future(asyncio.to_thread(self._occupy, version, adapter))
        try:
            slot = await asyncio.shield(occupying)
            check = SoundnessCheck(version, slot, self._probe)
            self._thread.submit(check)
            if not await asyncio.wrap_future(check.result):
                raise InvalidAdapter(
                    f"version {version} computes numbers that are not finite; train it again"
                )
        except BaseException:
            await asyncio.wait((occupying,))  # a thread that copies can't be stopped
            if occupying.exception() is not None:
                raise
            await asyncio.wrap_future(self._thread.call(lambda: self._table.unload(version)))
            raise
        self._residents.add(version, slot)

    def _occupy(self, version: str, adapter: Adapter | None) -> int:
        return self._table.load_base(version) if adapter is None else self._table.load(version, adapter)

    def _remove(self, version: str) -> None:
        self._forget(version)
        self._table.unload(version)
        self._residents.remove(version)
