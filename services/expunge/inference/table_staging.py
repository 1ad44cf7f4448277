"""Bringing versions into the slot table of a model that steps on meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from expunge.errors import InvalidAdapter
from expunge.inference.engine_thread import EngineThread
from expunge.inference.residents import Residents
from expunge.inference.soundness import SoundnessCheck
from expunge.inference.staging import Staging
from expunge.lora.adapter import Adapter
from expunge.lora.slots import SlotTable
from expunge.models.load import LoadedModel


class TableStaging(Staging):
    """Tensors are copied off the engine's thread; a version's first run is part of an ordinary step.

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
        super().__init__(loaded.digest, table.shape, residents, max_rank)
        self._probe = int(loaded.tokenizer.eos_token_id)
        self._table = table
        self._thread = thread
        self._forget = forget

    async def _install(self, version: str, adapter: Adapter | None) -> int:
        occupying = self._aside(lambda: self._occupy(version, adapter))
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
        return slot

    def _occupy(self, version: str, adapter: Adapter | None) -> int:
        return self._table.load_base(version) if adapter is None else self._table.load(version, adapter)

    async def _remove(self, version: str) -> None:
        await asyncio.wrap_future(self._thread.call(lambda: self._clear(version)))

    def _clear(self, version: str) -> None:
        self._forget(version)
        self._table.unload(version)
