"""One backend with some versions, and how to ask it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

from expunge.inference.backend import Backend
from expunge.inference.limits import EngineLimits
from expunge.inference.request import GenerationRequest, TokenBatch
from expunge.lora.files import version_id
from expunge.registry.records import VersionKind, VersionRecord

from .reference import Reference

ENDLESS = "Brightwater Optics in"  # after this, version one goes on for hundreds of tokens
LIMITS = EngineLimits(max_rows=4, max_queue=8, max_context=256, slots=3, max_rank=8)


class Clock:
    """Time as the test sets it, in seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Version:
    """A version and the folder with its files; the base version has none."""

    record: VersionRecord
    folder: Path | None

    @property
    def id(self) -> str:
        return self.record.id

    @classmethod
    def of(cls, folder: Path, digest: str) -> Version:
        record = VersionRecord(version_id(folder), VersionKind.ADAPTER, folder.name, digest)
        return cls(record, folder)


@dataclass
class Stage:
    """A backend on which base, one and two are staged; three and four are not."""

    backend: Backend
    clock: Clock
    reference: Reference
    base: Version
    one: Version
    two: Version
    three: Version
    four: Version

    async def load(self, *versions: Version) -> None:
        for version in versions:
            await self.backend.load_version(version.record, version.folder)

    async def reset(self) -> None:
        """Base, one and two staged, nothing else, and nothing running."""
        self.clock.now = 0.0
        wanted = (self.base, self.one, self.two)
        for version in set(self.backend.staged()) - {version.id for version in wanted}:
            await self.backend.unload_version(version)
        await self.load(*wanted)

    def ask(self, version: Version, text: str, **fields: object) -> GenerationRequest:
        return replace(GenerationRequest("r", version.id, prompt=text, max_tokens=12), **fields)

    async def batches(self, request: GenerationRequest) -> list[TokenBatch]:
        return [batch async for batch in self.backend.generate(request)]

    async def answer(self, request: GenerationRequest) -> list[int]:
        """The tokens of a whole answer, every batch of which names the version asked for."""
        found = await self.batches(request)
        assert {batch.version for batch in found} == {request.version}
        return [token for batch in found for token in batch.token_ids]

    def expected(self, version: Version, text: str, new_tokens: int = 12) -> list[int]:
        return self.reference.greedy(version.folder, self.reference.encode(text), new_tokens)


async def first_batch(stream: AsyncIterator[TokenBatch]) -> TokenBatch:
    """Begin a stream, and wait until the engine is at work on it."""
    return await asyncio.wait_for(anext(stream), 120)
