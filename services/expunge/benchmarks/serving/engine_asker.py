"""Asks the engine class in this process: the same requests, without gateway, Serve or network."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator
from pathlib import Path

from expunge.benchmarks.serving.load import AskFailed, Piece
from expunge.benchmarks.serving.plan import Ask, Target
from expunge.config import Settings, read_settings
from expunge.errors import ExpungeError
from expunge.gateway.base_model import BaseModel
from expunge.inference.backend import Backend, open_backend
from expunge.inference.request import GenerationRequest, Sampling
from expunge.lora.files import read_config, version_id
from expunge.registry.records import VersionKind, VersionRecord

IMPOSSIBLE = -100.0


class EngineAsker:
    """One engine with the versions that the target names."""

    def __init__(self, engine: Backend, settings: Settings, versions: dict[str, str], target: Target) -> None:
        self._engine = engine
        self._interval_s = settings.stream_batch_s
        self._versions = versions
        self._sampling = Sampling(logit_bias=tuple((token, IMPOSSIBLE) for token in target.end_tokens))
        self._numbers = itertools.count()

    @classmethod
    async def start(cls, target: Target) -> EngineAsker:
        """Loads the model and every version."""
        settings = read_settings(**(target.settings or {}))
        base = BaseModel.find(settings)
        engine = await open_backend(settings)
        engine.start()
        versions = {}
        for name, folder in (target.adapters or {}).items():
            record = _record(name, folder, base)
            await engine.load_version(record, Path(folder) if folder else None)
            versions[name] = record.id
        return cls(engine, settings, versions, target)

    async def ask(self, ask: Ask, timeout_s: float) -> AsyncGenerator[Piece, None]:
        """See `Asker.ask`; the load measures a request that takes longer than `timeout_s` to its end."""
        request = GenerationRequest(
            request_id=f"bench-{next(self._numbers)}",
            version=self._versions[ask.model],
            prompt=ask.prompt,
            max_tokens=ask.max_tokens,
            sampling=self._sampling,
        )
        try:
            async for batch in self._engine.generate(request, self._interval_s):
                yield Piece(
                    tokens=len(batch.token_ids),
                    version=batch.version,
                    total_tokens=batch.completion_tokens if batch.finish else 0,
                    prompt_tokens=batch.prompt_tokens if batch.finish else 0,
                )
        except ExpungeError as error:
            raise AskFailed(f"{error.reason}: {error.message}") from error

    async def close(self) -> None:
        self._engine.close()


def _record(name: str, folder: str, base: BaseModel) -> VersionRecord:
    if not folder:
        return VersionRecord(base.version, VersionKind.BASE, name, base.digest)
    rank = read_config(Path(folder)).rank
    return VersionRecord(version_id(Path(folder)), VersionKind.ADAPTER, name, base.digest, rank)
