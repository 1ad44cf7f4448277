from __future__ import annotations

import asyncio

import pytest

from expunge.config import Settings
from expunge.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidRequest,
    NotFound,
    StaleGeneration,
)
from expunge.registry.records import MemberKind, Target
from expunge.registry.service import RegistryService

from .conftest import BASE, Clock, Follow, Open, put_adapters, roll_out


async def set_to(registry: RegistryService, *names: str, generation: int = 1, timeout_s: float = 5.0) -> int:
    weight = 100 // len(names)
    targets = [Target(f"sha-{name}", weight) for name in names]
    change = await registry.set_rollout("default", targets, generation, "test", "tester", timeout_s)
    return change.rollout.generation


async def test_the_default_alias_begins_at_the_base_version(registry: RegistryService) -> None:
    rollout = await registry.get_rollout("default")
    assert (rollout.generation, rollout.targets) == (1, (Target(BASE.id),))
    await registry.ensure_base(BASE)
    assert (await registry.get_rollout("default")).generation == 1


async def test_a_rollout_reaches_every_member_and_tells_how_long_it_took(
    registry: RegistryService, follow: Follow
) -> None:
    engine = await follow(registry, "engine-0")
    gateway = await follow(registry, "gateway-0", MemberKind.GATEWAY)
    await put_adapters(registry, "a")
    change = await registry.set_rollout("default", [Target("sha-a")], 1, "new", "tester", 5.0)
    assert change.rollout.generation == 2
    assert change.unconfirmed == ()
    assert 0 < change.flip_ms < 1000
    assert change.confirmed_at >= change.committed_at
    for member in (engine, gateway):
        assert member.snapshot is not None
        assert member.snapshot.rollouts == (change.rollout,)
    statuses = await registry.members()
    assert all(one.revision >= registry.hub.snapshot.revision for one in statuses)


async def test_a_new_alias_starts_from_generation_zero(registry: RegistryService, follow: Follow) -> None:
    await follow(registry, "engine-0")
    await put_adapters(registry, "a")
    with pytest.raises(NotFound):
        await registry.set_rollout("other", [Target("sha-a")], 3, "r", "p", 5.0)
    change = await registry.set_rollout("other", [Target("sha-a")], 0, "r", "p", 5.0)
    assert change.rollout.generation == 1
    assert [rollout.alias for rollout in await registry.list_rollouts()] == ["default", "other"]


async def test_of_two_changes_from_one_generation_one_wins(registry: RegistryService, follow: Follow) -> None:
    await follow(registry, "engine-0")
    await put_adapters(registry, "a", "b")
    outcomes = await asyncio.gather(set_to(registry, "a"), set_to(registry, "b"), return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["StaleGeneration", "int"]
    assert (await registry.get_rollout("default")).generation == 2


async def test_a_repeated_call_answers_with_its_own_change(registry: RegistryService, follow: Follow) -> None:
    await follow(registry, "engine-0")
    await put_adapters(registry, "a")
    assert await set_to(registry, "a") == 2
    assert await set_to(registry, "a") == 2
    assert len(await registry.rollout_history("default")) == 2
    with pytest.raises(StaleGeneration):
        await registry.set_rollout("default", [Target("sha-a")], 1, "another reason", "tester", 5.0)


@pytest.mark.parametrize(
    ("targets", "word"),
    [
        ([], "at least one"),
        ([Target("sha-a", 60)], "sum to 100"),
        ([Target("sha-a", 50), Target("sha-a", 50)], "once"),
        ([Target("sha-a", 100), Target("sha-b", 0)], "between 1 and 100"),
    ],
)
async def test_bad_targets_are_refused(registry: RegistryService, targets: list[Target], word: str) -> None:
    with pytest.raises(InvalidRequest, match=word):
        await registry.set_rollout("default", targets, 1, "r", "p", 1.0)


async def test_unknown_and_retired_versions_are_refused(registry: RegistryService) -> None:
    await put_adapters(registry, "a")
    await registry.retire_version("a", "tester")
    with pytest.raises(NotFound, match="push"):
        await registry.set_rollout("default", [Target("sha-x")], 1, "r", "p", 1.0)
    with pytest.raises(FailedPrecondition, match="retired"):
        await registry.set_rollout("default", [Target("sha-a")], 1, "r", "p", 1.0)


async def test_without_a_replica_nothing_goes_live(open_registry: Open, settings: Settings) -> None:
    registry = await open_registry(settings=settings.model_copy(update={"staging_timeout_s": 0.1}))
    await registry.ensure_base(BASE)
    await put_adapters(registry, "a")
    with pytest.raises(FailedPrecondition, match="no engine replica is connected"):
        await set_to(registry, "a")
    assert (await registry.get_rollout("default")).generation == 1
    assert [version.id for version in registry.hub.snapshot.wanted] == [BASE.id]


async def test_a_version_that_no_replica_can_load_is_refused_with_the_cause(
    registry: RegistryService, follow: Follow
) -> None:
    engine = await follow(registry, "engine-0")
    engine.failing["sha-a"] = "rank 99 is above the limit"
    await put_adapters(registry, "a")
    with pytest.raises(FailedPrecondition, match="engine-0: rank 99 is above the limit"):
        await set_to(registry, "a")
    engine.failing.clear()
    assert await set_to(registry, "a") == 2  # a failed publish can be repeated


async def test_a_replica_that_fails_to_stage_leaves_routing_and_returns_once_it_can(
    registry: RegistryService, follow: Follow
) -> None:
    await follow(registry, "engine-0")
    bad = await follow(registry, "engine-1")
    bad.failing["sha-a"] = "out of memory"
    await put_adapters(registry, "a")
    assert await set_to(registry, "a") == 2
    assert registry.hub.snapshot.unroutable == ("engine-1",)
    assert [one.routable for one in await registry.members()] == [True, False]
    bad.failing.clear()
    await bad.poll()
    assert [one.routable for one in await registry.members()] == [True, True]
    assert registry.hub.snapshot.unroutable == ()


async def test_a_replica_past_its_staging_deadline_does_not_hold_the_others_up(
    open_registry: Open, settings: Settings, follow: Follow
) -> None:
    registry = await open_registry(settings=settings.model_copy(update={"staging_timeout_s": 0.3}))
    await registry.ensure_base(BASE)
    await follow(registry, "engine-0")
    slow = await follow(registry, "engine-1")
    slow.ignored.add("sha-a")
    await put_adapters(registry, "a")
    assert await set_to(registry, "a") == 2
    assert registry.hub.snapshot.unroutable == ("engine-1",)


async def test_a_caller_out_of_time_changes_nothing(registry: RegistryService, follow: Follow) -> None:
    engine = await follow(registry, "engine-0")
    engine.ignored.add("sha-a")
    await put_adapters(registry, "a")
    with pytest.raises(DeadlineExceeded, match="engine-0"):
        await set_to(registry, "a", timeout_s=0.1)
    assert (await registry.get_rollout("default")).generation == 1
    assert registry.hub.snapshot.unroutable == ()


async def test_an_expired_member_does_not_hold_a_flip_up(
    open_registry: Open, settings: Settings, follow: Follow
) -> None:
    registry = await open_registry(settings=settings.model_copy(update={"lease_s": 0.6}))
    await registry.ensure_base(BASE)
    await follow(registry, "engine-0")
    dead = await follow(registry, "gateway-0", MemberKind.GATEWAY)
    await dead.stop()
    await put_adapters(registry, "a")
    change = await registry.set_rollout("default", [Target("sha-a")], 1, "r", "p", 5.0)
    assert change.rollout.generation == 2
    assert change.unconfirmed == ("gateway-0",)
    assert [one.member for one in await registry.members()] == ["engine-0"]


async def test_other_aliases_move_while_one_is_staging(registry: RegistryService, follow: Follow) -> None:
    engine = await follow(registry, "engine-0")
    engine.ignored.add("sha-a")
    await put_adapters(registry, "a", "b")
    slow = asyncio.create_task(set_to(registry, "a"))
    change = await registry.set_rollout("other", [Target("sha-b")], 0, "r", "p", 5.0)
    assert change.rollout.generation == 1
    assert not slow.done()
    engine.ignored.clear()
    await engine.poll()
    assert await slow == 2


async def test_resident_are_active_versions_the_rollback_target_and_what_is_staged(
    registry: RegistryService, follow: Follow
) -> None:
    await follow(registry, "engine-0")
    await put_adapters(registry, "a", "b", "c")
    await roll_out(registry, "a")
    await roll_out(registry, "b")
    assert [version.id for version in registry.hub.snapshot.wanted] == ["sha-a", "sha-b"]
    assert await registry.stage("c", 5.0) == ("engine-0",)
    assert [version.id for version in registry.hub.snapshot.wanted] == ["sha-a", "sha-b", "sha-c"]
    await registry.unstage("sha-c")
    assert [version.id for version in registry.hub.snapshot.wanted] == ["sha-a", "sha-b"]


async def test_no_more_versions_are_wanted_than_a_replica_has_slots(
    open_registry: Open, settings: Settings, follow: Follow
) -> None:
    registry = await open_registry(settings=settings.model_copy(update={"adapter_slots": 2}))
    await registry.ensure_base(BASE)
    await follow(registry, "engine-0")
    await put_adapters(registry, "a", "b")
    await registry.stage("a", 5.0)
    with pytest.raises(FailedPrecondition, match="adapter_slots") as refused:
        await registry.stage("b", 5.0)
    assert refused.value.reason == "NO_FREE_SLOT"
    await roll_out(registry, "a")
    await roll_out(registry, "b")  # the rollback target makes room
    assert len(registry.hub.snapshot.wanted) == 2


async def test_rollback_goes_to_the_newest_earlier_version(registry: RegistryService, follow: Follow) -> None:
    await follow(registry, "engine-0")
    await put_adapters(registry, "a", "b")
    await roll_out(registry, "a")
    await roll_out(registry, "b")
    change = await registry.rollback("default", 3, "it stutters", "tester", 5.0)
    assert change.rollout.targets == (Target("sha-a"),)
    assert (await registry.rollback("default", 3, "it stutters", "tester", 5.0)).rollout == change.rollout
    explicit = await registry.rollback("default", 4, "further", "tester", 5.0, to_version="base")
    assert explicit.rollout.targets == (Target(BASE.id),)


async def test_rollback_without_an_earlier_version_is_refused(registry: RegistryService) -> None:
    with pytest.raises(FailedPrecondition, match="no earlier version"):
        await registry.rollback("default", 1, "r", "p", 5.0)


async def test_weighted_targets_are_all_resident(registry: RegistryService, follow: Follow) -> None:
    await follow(registry, "engine-0")
    await put_adapters(registry, "a", "b")
    assert await set_to(registry, "a", "b") == 2
    wanted = {version.id for version in registry.hub.snapshot.wanted}
    assert wanted == {"sha-a", "sha-b", BASE.id}


async def test_a_version_that_failed_to_stage_can_be_staged_again(
    registry: RegistryService, follow: Follow
) -> None:
    engine = await follow(registry, "engine-0")
    engine.failing["sha-a"] = "the blob store is away"
    await put_adapters(registry, "a")
    with pytest.raises(FailedPrecondition, match="away"):
        await registry.stage("a", 5.0)
    assert "sha-a" not in {version.id for version in registry.hub.snapshot.wanted}
    engine.failing.clear()
    assert await registry.stage("a", 5.0) == ("engine-0",)


async def test_a_replica_that_joins_late_gets_its_own_time_to_stage(
    open_registry: Open, settings: Settings, follow: Follow
) -> None:
    clock = Clock()
    registry = await open_registry(settings=settings.model_copy(update={"lease_s": 1000.0}), monotonic=clock)
    await registry.ensure_base(BASE)
    first = await follow(registry, "engine-0")
    await put_adapters(registry, "a")
    await registry.stage("a", 5.0)
    await first.stop()
    await registry.leave("engine-0")
    clock.now += 60.0  # long past the deadline that replicas had when the version was first wanted
    second = await follow(registry, "engine-1")
    second.ignored.add("sha-a")
    rollout = asyncio.create_task(set_to(registry, "a"))
    second.ignored.clear()
    await second.poll()
    assert await rollout == 2
    assert registry.hub.snapshot.unroutable == ()
