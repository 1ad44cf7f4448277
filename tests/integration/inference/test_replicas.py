"""Two real replicas: who is asked, and what happens when one of them is slow, left out or killed."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from expunge.config import Settings
from expunge.errors import Unavailable
from expunge.inference.client import EngineClient
from expunge.inference.request import GenerationRequest, ScoreRequest
from expunge.registry.records import Target

from .engines import Engines, engines, eventually, put_adapter, replica_processes

PREFIX = "The keeper of the lighthouse knows the sea and its storms. " * 3


@pytest.fixture(scope="module")
def service(settings: Settings) -> Iterator[Engines]:
    with engines(settings) as running:
        yield running


async def versions_of(client: EngineClient, request: GenerationRequest) -> set[str]:
    return {batch.version async for batch in client.generate(request)}


async def test_prompts_that_begin_alike_go_to_one_replica(service: Engines) -> None:
    client = EngineClient(service.handle)
    async with service.counting_prompts() as taken:
        for number in range(8):
            await versions_of(client, service.ask(f"{PREFIX}{number}"))
    assert sorted(tokens > 0 for tokens in taken.values()) == [False, True]


async def test_many_prompts_at_once_spread_although_they_begin_alike(service: Engines) -> None:
    client = EngineClient(service.handle)
    async with service.counting_prompts() as taken:
        requests = [service.ask(f"{PREFIX}{number}", max_tokens=32) for number in range(40)]
        await asyncio.gather(*(versions_of(client, request) for request in requests))
    assert len(taken) == 2
    assert min(taken.values()) > 0.2 * sum(taken.values())


async def test_different_prompts_at_once_are_shared_evenly(service: Engines) -> None:
    client = EngineClient(service.handle)
    async with service.counting_prompts() as taken:
        requests = [service.ask(f"{number} nets hang in the wind", max_tokens=16) for number in range(24)]
        await asyncio.gather(*(versions_of(client, request) for request in requests))
    assert min(taken.values()) > 0.4 * sum(taken.values())


async def test_an_unroutable_replica_gets_nothing_and_where_all_are_the_caller_is_told_at_once(
    service: Engines,
) -> None:
    left_out, other = await service.stats()
    client = EngineClient(service.handle, lambda: (left_out,))
    async with service.counting_prompts() as taken:
        requests = [service.ask(f"{number} gulls", max_tokens=8) for number in range(12)]
        await asyncio.gather(*(versions_of(client, request) for request in requests))
    assert taken[left_out] == 0
    assert taken[other] > 0
    nobody = EngineClient(service.handle, lambda: (left_out, other))
    with pytest.raises(Unavailable):
        await versions_of(nobody, service.ask("Is anybody there?"))
    with pytest.raises(Unavailable):
        await nobody.score(ScoreRequest("r", service.base.version, "The sea is", " wide"))


async def test_a_version_that_nobody_holds_is_asked_of_each_replica_once(service: Engines) -> None:
    with pytest.raises(Unavailable) as caught:
        await versions_of(EngineClient(service.handle), service.ask("The", version="sha256:none"))
    assert caught.value.reason == "VERSION_NOT_STAGED"


async def test_a_replica_that_has_not_staged_a_version_does_not_delay_requests_for_it(
    service: Engines, tiny_adapter_folders: tuple[Path, Path]
) -> None:
    """One replica stands still while the version is staged; the other answers, and nobody waits."""
    version = await put_adapter(service, tiny_adapter_folders[0])
    client = EngineClient(service.handle)
    halted = replica_processes()[0]
    halted.send_signal(signal.SIGSTOP)
    rollout = asyncio.create_task(
        service.registry.set_rollout("new", [Target(version.id)], 0, "test", "tester", 60.0)
    )
    try:
        await eventually(lambda: _is_staged(service, version.id))
        await eventually(lambda: _routers_know(service, version.id))
        for number in range(8):
            request = service.ask(f"{number} boats", version=version.id)
            assert await asyncio.wait_for(versions_of(client, request), 20) == {version.id}
    finally:
        halted.send_signal(signal.SIGCONT)
        await rollout


async def test_a_killed_replicas_share_moves_on(service: Engines) -> None:
    client, prefix = EngineClient(service.handle), f"Of fog and bells. {PREFIX}"
    async with service.counting_prompts() as taken:
        await versions_of(client, service.ask(prefix))
    (home,) = (name for name, tokens in taken.items() if tokens)
    ray.kill(ray.get_actor(f"SERVE_REPLICA::engines#Engine#{home}", namespace="serve"))
    answered = 0
    for number in range(10):
        try:
            assert await versions_of(client, service.ask(f"{prefix}{number}")) == {service.base.version}
            answered += 1
        except Unavailable:  # sent before its death was known
            assert answered == 0
    assert answered >= 8
    assert home not in await service.stats()


async def _is_staged(service: Engines, version: str) -> bool:
    return any(version in member.staged for member in await service.members())


def _routers_know(service: Engines, version: str) -> bool:
    """Whether this process's router has been told by some replica; Serve has no public way to ask."""
    router = service.handle._router._asyncio_router.request_router
    told = [replica.routing_stats.get("staged", ()) for replica in list(router.curr_replicas.values())]
    return any(version in staged for staged in told)
