"""Bringing versions into the engine and out of it, while it serves."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from expunge.errors import InvalidAdapter
from expunge.inference.engine_thread import EngineThread
from expunge.inference.residents import Residents
from expunge.inference.runner import ModelRunner
from expunge.inference.version_files import check_base, read_version
from expunge.lora.adapter import Adapter
from expunge.models.load import LoadedModel
from expunge.registry.records import VersionKind, VersionRecord


class Staging:
    """Loads and unloads versions: files are read off the engine's thread, tensors swapped between steps.

    `forget` is called with a version that leaves, on the engine's thread.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        runner: ModelRunner,
        residents: Residents,
        thread: EngineThread,
        max_rank: int,
        forget: Callable[[str], None],
    ) -> None:
        self._digest = loaded.digest
        self._probe = int(loaded.tokenizer.eos_token_id)
        self._runner = runner
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
                shape = self._runner.table.shape
                adapter = await asyncio.to_thread(read_version, record, folder, shape, self._max_rank)
            await asyncio.wrap_future(self._thread.call(lambda: self._install(record.id, adapter)))

    async def unload(self, version: str) -> bool:
        """Let `version` go once nothing uses it; see `Backend.unload_version`."""
        async with self._locks[version]:
            unused = self._residents.retire(version)
            if unused is None or not await asyncio.wrap_future(unused):
                return False
            await asyncio.wrap_future(self._thread.call(lambda: self._remove(version)))
            return True

    def _install(self, version: str, adapter: Adapter | None) -> None:
        table = self._runner.table
        slot = table.load_base(version) if adapter is None else table.load(version, adapter)
        try:
            if not self._runner.is_sound(slot, self._probe):
                raise InvalidAdapter(
                    f"version {version} computes numbers that are not finite; train it again"
                )
        except Exception:
            table.unload(version)
            raise
        self._residents.add(version, slot)

    def _remove(self, version: str) -> None:
        self._forget(version)
        self._runner.table.unload(version)
        self._residents.remove(version)
