"""Bringing versions into vLLM and out of it, while it serves."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from vllm.lora.request import LoRARequest
from vllm.v1.engine.async_llm import AsyncLLM

from expunge.errors import FailedPrecondition, InvalidAdapter, Unavailable
from expunge.inference.limits import EngineLimits
from expunge.inference.residents import Residents
from expunge.inference.staging import Staging
from expunge.inference.vllm.failures import translate
from expunge.inference.vllm.probe import Probe
from expunge.lora.adapter import Adapter
from expunge.lora.compose import level
from expunge.lora.peft_format import write_adapter
from expunge.lora.shape import ModelShape
from expunge.models.load import LoadedModel
from expunge.observability.logging import get_logger

_BASE = 0  # in place of an adapter's number

_log = get_logger()


class VllmStaging(Staging):
    """Every load of a version gets a name, a number and a folder that no other load ever has.

    vLLM keys what it caches of prompts by an adapter's name and path, and would answer from an adapter's old
    weights under an old name. It reads a folder again whenever it likes, so the folder stays until the
    adapter leaves. No more adapters are brought in than there are slots, so it never evicts one.
    """

    def __init__(
        self, loaded: LoadedModel, llm: AsyncLLM, residents: Residents, limits: EngineLimits
    ) -> None:
        shape = ModelShape.of(loaded.model, loaded.digest)
        super().__init__(loaded.digest, shape, residents, limits.max_rank)
        self._llm = llm
        self._probe = Probe(llm, loaded.model.config.vocab_size)
        self._slots = limits.slots
        self._numbers = itertools.count(_BASE + 1)
        self._adapters: dict[int, LoRARequest] = {}
        self._folder = TemporaryDirectory(prefix="expunge-vllm-")

    def adapter(self, number: int) -> LoRARequest | None:
        """What a request on the version in slot `number` is to name; None for the base version's alone."""
        return None if number == _BASE else self._adapters[number]

    def close(self) -> None:
        """Remove the folders."""
        self._folder.cleanup()

    async def _install(self, version: str, adapter: Adapter | None) -> int:
        if adapter is None:
            return _BASE
        if len(self._adapters) >= self._slots:
            raise FailedPrecondition(
                f"all {self._slots} adapter slots are taken; retire a version or raise adapter_slots",
                reason="SLOTS_FULL",
            )
        number = next(self._numbers)
        folder = Path(self._folder.name) / str(number)
        request = LoRARequest(f"{version}#{number}", number, str(folder))
        self._adapters[number] = request
        try:
            await asyncio.to_thread(write_adapter, level(adapter), folder)
            await self._add(version, request)
            await self._probe.check(version, adapter, request)
        except BaseException as error:
            await self._give_up(number)
            if isinstance(error, Exception):
                raise translate(error, version) from error
            raise
        return number

    async def _add(self, version: str, request: LoRARequest) -> None:
        try:
            is_added = await self._llm.add_lora(request)
        except Exception as error:
            failure = translate(error, version)
            if isinstance(failure, Unavailable):
                raise failure from error
            raise InvalidAdapter(f"vLLM can't load version {version}: {failure.message}") from error
        if not is_added:
            raise InvalidAdapter(f"vLLM did not load version {version}; serve it with backend torch")

    async def _remove(self, version: str) -> None:
        number = self._residents.slot_of(version)
        if number != _BASE:
            await self._take_out(number)

    async def _take_out(self, number: int) -> None:
        request = self._adapters[number]
        try:
            await self._llm.remove_lora(number)
            is_there = number in await self._llm.list_loras()
        except Exception as error:
            raise translate(error, request.lora_name) from error
        if is_there:
            raise Unavailable(f"vLLM does not let {request.lora_name} go; restart this replica")
        del self._adapters[number]
        await asyncio.to_thread(shutil.rmtree, request.lora_path)

    async def _give_up(self, number: int) -> None:
        """Take out what may be half there. Where that fails its slot stays taken."""
        try:
            await self._take_out(number)
        except Exception:
            _log.exception("unload_failed", version=self._adapters[number].lora_name)
