"""Replicas come with load and go without it, and no request notices."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from expunge.config import Settings
from expunge.inference.client import EngineClient
from expunge.inference.request import FinishReason
from expunge.registry.records import Target

from .engines import Engines, engines, eventually, put_adapter

CLIENTS = 8


@pytest.fixture(scope="module")
def service(settings: Settings) -> Iterator[Engines]:
    scaling = {
        "engine_replicas": 1,
        "engine_replicas_max": 2,
        "engine_target_ongoing": 3.0,
        "engine_upscale_delay_s": 0.0,
        "engine_downscale_delay_s": 1.0,
        "engine_scaling_window_s": 2.0,
    }
    with engines(settings.model_copy(update=scaling)) as running:
        yield running


async def test_replicas_follow_the_load_and_no_request_fails_or_meets_another_version(
    service: Engines, tiny_adapter_folders: tuple[Path, Path]
) -> None:
    """The default alias points at an adapter: what was pushed since the first replica started counts, too."""
    version = await put_adapter(service, tiny_adapter_folders[0])
    rollout = await service.registry.get_rollout("default")
    await service.registry.set_rollout(
        "default", [Target(version.id)], rollout.generation, "test", "tester", 30.0
    )
    client, asking = EngineClient(service.handle), set(range(CLIENTS))

    async def keep_asking(number: int) -> int:
        asked = 0
        while number in asking:
            request = service.ask(f"{number} and {asked} boats", version=version.id, max_tokens=64)
            batches = [batch async for batch in client.generate(request)]
            assert {batch.version for batch in batches} == {version.id}
            assert batches[-1].finish in (FinishReason.LENGTH, FinishReason.STOP)
            asked += 1
        return asked

    async def are_replicas(count: int) -> bool:
        return len(await service.stats()) == count

    (first,) = await service.stats()
    load = [asyncio.create_task(keep_asking(number)) for number in range(CLIENTS)]
    try:
        await eventually(lambda: are_replicas(2))
        (second,) = set(await service.stats()) - {first}
        await eventually(lambda: _has_answered_on_each(service))
        staged = {member.member: member.staged for member in await service.members()}
        assert version.id in staged[second]
        asking &= {0, 1}  # these go on while a replica leaves
        await eventually(lambda: are_replicas(1))
    finally:
        asking.clear()
        asked = await asyncio.gather(*load)
    assert min(asked) > 0


async def _has_answered_on_each(service: Engines) -> bool:
    return all(stats.generated_tokens > 0 for stats in (await service.stats()).values())
