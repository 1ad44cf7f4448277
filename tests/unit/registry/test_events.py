from __future__ import annotations

import asyncio

from expunge.registry.service import RegistryService

from .conftest import Open, adapter, put_adapters


async def test_events_come_in_order_and_by_topic(registry: RegistryService) -> None:
    await put_adapters(registry, "a", "b")
    everything = await registry.events("", 0, 0.0)
    assert [event.seq for event in everything] == sorted(event.seq for event in everything)
    assert [event.topic for event in await registry.events("adapter:sha-", 0, 0.0)] == [
        "adapter:sha-a",
        "adapter:sha-b",
    ]
    assert await registry.events("adapter:SHA-", 0, 0.0) == []
    assert await registry.events("adapter:sha%", 0, 0.0) == []


async def test_a_follower_wakes_for_its_topic_only(registry: RegistryService) -> None:
    latest = (await registry.events("", 0, 0.0))[-1].seq
    waiting = asyncio.create_task(registry.events("adapter:sha-b", latest, 5.0))
    await put_adapters(registry, "a")
    assert not waiting.done()
    await put_adapters(registry, "b")
    (event,) = await waiting
    assert event.topic == "adapter:sha-b"


async def test_nothing_new_is_an_empty_answer(registry: RegistryService) -> None:
    latest = (await registry.events("", 0, 0.0))[-1].seq
    assert await registry.events("", latest, 0.02) == []


async def test_events_of_a_former_life_are_read_from_the_database(open_registry: Open) -> None:
    registry = await open_registry()
    await put_adapters(registry, "a", "b")
    before = await registry.events("", 0, 0.0)
    registry = await open_registry()
    assert (await registry.events("", 0, 0.0))[: len(before)] == before
    assert await registry.events("adapter:", before[-1].seq, 0.0) == []
    waiting = asyncio.create_task(registry.events("adapter:", before[-1].seq, 5.0))
    await registry.put_version(adapter("c"))
    assert [event.topic for event in await waiting] == ["adapter:sha-c"]


async def test_an_answer_has_five_hundred_events_at_most(registry: RegistryService) -> None:
    await registry.write(lambda transaction: [transaction.add_event("many:", str(n)) for n in range(700)])
    page = await registry.events("many:", 0, 0.0)
    rest = await registry.events("many:", page[-1].seq, 0.0)
    assert (len(page), len(rest)) == (500, 200)
    assert [event.kind for event in page + rest] == [str(number) for number in range(700)]
