"""Requests to an engine, and a clock that holds it."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

from expunge.inference.engine import Engine
from expunge.inference.limits import EngineLimits
from expunge.inference.request import GenerationRequest, TokenBatch

LIMITS = EngineLimits(
    max_rows=4,
    max_queue=64,
    max_context=256,
    slots=4,
    max_rank=8,
    idle_prefill_tokens=48,
)


class Gate:
    """The engine's clock. While closed it holds the engine at a request that has a deadline."""

    def __init__(self) -> None:
        self._is_open = threading.Event()
        self._is_reached = threading.Event()
        self.open()

    def open(self) -> None:
        self._is_open.set()

    def close(self) -> None:
        self._is_reached.clear()
        self._is_open.clear()

    async def reached(self) -> None:
        """Wait until the engine has come to the gate."""
        await asyncio.to_thread(self._is_reached.wait)

    def __call__(self) -> float:
        self._is_reached.set()
        self._is_open.wait()
        return 0.0


async def collect(engine: Engine, request: GenerationRequest) -> list[TokenBatch]:
    return [batch async for batch in engine.generate(request)]


async def answer(engine: Engine, request: GenerationRequest) -> tuple[list[int], TokenBatch]:
    batches = await collect(engine, request)
    assert {batch.version for batch in batches} == {request.version}
    return [token for batch in batches for token in batch.token_ids], batches[-1]


def ask(text: str, version: str, **fields: object) -> GenerationRequest:
    return replace(GenerationRequest("r", version, prompt=text, max_tokens=12), **fields)
