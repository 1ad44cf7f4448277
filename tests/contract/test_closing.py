"""Closing a backend ends what runs on it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from expunge.errors import Unavailable

from .conftest import Opener
from .reference import Reference
from .stage import ENDLESS, Clock, Stage, Version, first_batch

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_closing_ends_running_requests(
    opener: Opener, model_folder: Path, versions: dict[str, Version]
) -> None:
    clock = Clock()
    backend = await asyncio.to_thread(opener, model_folder, clock)
    assert not backend.is_alive
    backend.start()
    assert backend.is_alive
    stage = Stage(backend, clock, Reference(model_folder), **versions)
    await stage.load(stage.one)
    streams = [backend.generate(stage.ask(stage.one, ENDLESS, max_tokens=240)) for _ in range(8)]
    await first_batch(streams[0])
    waiting = [asyncio.create_task(_drain(stream)) for stream in streams]
    await asyncio.wait(waiting, timeout=0)
    await asyncio.to_thread(backend.close)
    ends = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(end) for end in ends} == {Unavailable}
    with pytest.raises(Unavailable):
        await stage.answer(stage.ask(stage.one, "The dog"))
    assert not backend.is_alive


async def _drain(stream: object) -> None:
    async for _ in stream:  # type: ignore[attr-defined]
        pass
