from __future__ import annotations

import asyncio
from dataclasses import replace

from expunge.config import Settings
from expunge.registry.records import MemberKind, MemberReport
from expunge.registry.service import RegistryService

from .conftest import BASE, Clock, Follow, Open, accept, put_adapters, roll_out


def report(revision: int = 0, name: str = "gateway-0") -> MemberReport:
    return MemberReport(name, MemberKind.GATEWAY, revision)


async def test_watch_answers_at_once_when_a_member_knows_another_revision(
    registry: RegistryService,
) -> None:
    current = registry.hub.snapshot.revision
    for known in (0, current - 1, current + 1000):
        snapshot = await registry.watch(report(), known, timeout_s=0.0)
        assert snapshot is not None
        assert snapshot.revision == current


async def test_watch_returns_none_when_nothing_changes(registry: RegistryService) -> None:
    assert await registry.watch(report(), registry.hub.snapshot.revision, timeout_s=0.05) is None


async def test_a_change_wakes_every_watcher(registry: RegistryService, follow: Follow) -> None:
    await follow(registry, "engine-0")
    await put_adapters(registry, "a")
    known = registry.hub.snapshot.revision
    watchers = [
        asyncio.create_task(registry.watch(report(known, f"gateway-{i}"), known, timeout_s=5.0))
        for i in range(50)
    ]
    await asyncio.sleep(0)  # let them join
    rollout = asyncio.create_task(roll_out(registry, "a"))
    for watcher in watchers:
        snapshot = await watcher
        assert snapshot is not None
        assert snapshot.revision > known
    rollout.cancel()  # the watchers do not poll again, so nobody confirms


async def test_a_poll_never_outlasts_a_third_of_the_lease(open_registry: Open, settings: Settings) -> None:
    registry = await open_registry(settings=settings.model_copy(update={"lease_s": 0.15}))
    known = registry.hub.snapshot.revision
    assert await asyncio.wait_for(registry.watch(report(known), known, timeout_s=60.0), 5.0) is None


async def test_revision_rises_across_restarts_and_past_a_restored_backup(open_registry: Open) -> None:
    clock = Clock(1000.0)
    registry = await open_registry(wall=clock)
    await registry.ensure_base(BASE)
    first = registry.hub.snapshot.revision
    registry = await open_registry(wall=clock)
    assert registry.hub.snapshot.revision > first
    clock.now += 1.0  # a second in which a database now lost may have counted on
    registry = await open_registry(wall=clock)
    assert registry.hub.snapshot.revision >= 1_001_000


async def test_a_member_lives_for_its_lease_only(open_registry: Open) -> None:
    clock = Clock()
    registry = await open_registry(monotonic=clock)
    await registry.watch(report(), 0, 0.0)
    clock.now += 9.9
    assert [member.member for member in await registry.members()] == ["gateway-0"]
    clock.now += 0.2
    assert await registry.members() == []


async def test_members_that_join_at_once_are_all_waited_for_after_a_restart(open_registry: Open) -> None:
    registry = await open_registry()
    names = {f"gateway-{number}" for number in range(5)}
    await asyncio.gather(*(registry.watch(report(name=name), 0, 0.0) for name in names))
    registry = await open_registry()
    assert set(registry.membership.live()) == names


async def test_a_member_that_leaves_is_gone_at_once(registry: RegistryService) -> None:
    await registry.watch(report(), 0, 0.0)
    await registry.leave("gateway-0")
    await registry.leave("gateway-0")
    assert await registry.members() == []


async def test_former_members_are_expected_after_a_restart(open_registry: Open) -> None:
    registry = await open_registry()
    await registry.watch(report(), 0, 0.0)
    await registry.watch(report(name="gateway-1"), 0, 0.0)
    await registry.leave("gateway-1")
    registry = await open_registry()
    (member,) = await registry.members()
    assert (member.member, member.revision) == ("gateway-0", 0)


async def test_members_show_what_they_report(registry: RegistryService) -> None:
    told = replace(report(7), staged=("a",), failed={"b": "bad shape"}, address="10.0.0.1:50051")
    await registry.watch(told, 0, 0.0)
    (member,) = await registry.members()
    assert (member.revision, member.staged, member.failed, member.address, member.routable) == (
        7,
        ("a",),
        {"b": "bad shape"},
        "10.0.0.1:50051",
        True,
    )


async def test_guards_go_to_gateways_only(registry: RegistryService) -> None:
    erasure = await accept(registry)
    told = await registry.watch(report(), 0, 0.0)
    assert told is not None
    assert [guard.erasure_id for guard in told.guards] == [erasure.id]
    engine = MemberReport("engine-0", MemberKind.ENGINE, 0)
    shown = await registry.watch(engine, 0, 0.0)
    assert shown == replace(told, guards=())
