from __future__ import annotations

import pytest

from expunge.errors import BelowFloor, FailedPrecondition, StaleGeneration
from expunge.registry.records import ErasureState, Target, Verdict
from expunge.registry.service import RegistryService

from .conftest import (
    BASE,
    POLICY,
    Follow,
    Open,
    accept,
    bring_to_staging,
    make_live,
    meet,
    put_adapters,
    roll_out,
)


async def test_an_erasure_joins_the_floor_with_the_flip_that_carries_it(
    registry: RegistryService, follow: Follow
) -> None:
    await follow(registry, "engine-0")
    await put_adapters(registry, "a")
    erasure = await make_live(registry, "a")
    assert registry.hub.snapshot.floor == (erasure.id,)
    assert (await registry.get_erasure(erasure.id)).state is ErasureState.LIVE
    kinds = [event.kind for event in await registry.events(f"erasure:{erasure.id}", 0, 0.0)]
    assert kinds == ["accepted", "state", "state"]


async def test_a_flip_for_an_erasure_that_is_not_staging_changes_nothing(
    registry: RegistryService, follow: Follow
) -> None:
    await follow(registry, "engine-0")
    await put_adapters(registry, "a")
    erasure = await accept(registry)
    await meet(registry, "a", erasure)
    with pytest.raises(StaleGeneration, match="accepted, not staging"):
        await roll_out(registry, "a", erasure.id)
    assert (await registry.get_rollout("default")).generation == 1
    assert registry.hub.snapshot.floor == ()


async def test_a_version_must_meet_the_erasure_it_carries(registry: RegistryService, follow: Follow) -> None:
    await follow(registry, "engine-0")
    await put_adapters(registry, "a")
    erasure = await accept(registry)
    await meet(registry, "a", erasure, passed=False)
    await bring_to_staging(registry, erasure)
    with pytest.raises(BelowFloor, match=erasure.id):
        await roll_out(registry, "a", erasure.id)


async def test_versions_below_the_floor_are_refused_by_name_of_the_erasures(
    registry: RegistryService, follow: Follow
) -> None:
    await follow(registry, "engine-0")
    await put_adapters(registry, "a", "b")
    erasure = await make_live(registry, "a")
    assert await registry.unmet("sha-b") == (erasure.id,)
    with pytest.raises(BelowFloor) as refused:
        await roll_out(registry, "b")
    assert refused.value.metadata["erasures"] == erasure.id
    assert (await registry.get_rollout("default")).targets == (Target("sha-a"),)
    await meet(registry, "b", erasure)
    await roll_out(registry, "b")


async def test_the_base_version_is_refused_while_the_floor_is_not_empty(
    registry: RegistryService, follow: Follow
) -> None:
    await follow(registry, "engine-0")
    await put_adapters(registry, "a")
    await make_live(registry, "a")
    for alias, generation in (("default", 2), ("other", 0)):
        with pytest.raises(BelowFloor):
            await registry.set_rollout(alias, [Target(BASE.id)], generation, "r", "p", 5.0)


async def test_a_canary_part_below_the_floor_is_refused(registry: RegistryService, follow: Follow) -> None:
    await follow(registry, "engine-0")
    await put_adapters(registry, "a", "b")
    await make_live(registry, "a")
    with pytest.raises(BelowFloor, match="sha-b"):
        await registry.set_rollout("default", [Target("sha-a", 99), Target("sha-b", 1)], 2, "r", "p", 5.0)


async def test_rollback_never_goes_below_the_floor(registry: RegistryService, follow: Follow) -> None:
    await follow(registry, "engine-0")
    await put_adapters(registry, "old", "a")
    await roll_out(registry, "old")
    erasure = await make_live(registry, "a")
    assert [version.id for version in registry.hub.snapshot.wanted] == ["sha-a"]
    with pytest.raises(BelowFloor, match=erasure.id):
        await registry.rollback("default", 3, "r", "p", 5.0, to_version="old")
    with pytest.raises(FailedPrecondition, match="no earlier version"):
        await registry.rollback("default", 3, "r", "p", 5.0)
    await meet(registry, "old", erasure)
    change = await registry.rollback("default", 3, "r", "p", 5.0)
    assert change.rollout.targets == (Target("sha-old"),)


async def test_with_several_aliases_the_last_flip_makes_the_erasure_live(
    registry: RegistryService, follow: Follow
) -> None:
    await follow(registry, "engine-0")
    await put_adapters(registry, "old", "a")
    await registry.set_rollout("other", [Target("sha-old")], 0, "r", "p", 5.0)
    erasure = await accept(registry)
    await meet(registry, "a", erasure)
    await bring_to_staging(registry, erasure)
    await roll_out(registry, "a", erasure.id)
    assert (await registry.get_erasure(erasure.id)).state is ErasureState.STAGING
    await registry.set_rollout("other", [Target("sha-a")], 1, "r", "p", 5.0, erasure.id)
    assert (await registry.get_erasure(erasure.id)).state is ErasureState.LIVE


async def test_no_erasure_is_declared_live_over_an_alias_that_leaks(
    registry: RegistryService,
) -> None:
    erasure = await accept(registry)
    await bring_to_staging(registry, erasure)
    with pytest.raises(BelowFloor):
        await registry.advance_erasure(erasure.id, ErasureState.STAGING, ErasureState.LIVE)
    assert registry.hub.snapshot.floor == ()


async def test_a_live_erasure_can_not_be_cancelled(registry: RegistryService, follow: Follow) -> None:
    await follow(registry, "engine-0")
    await put_adapters(registry, "a")
    erasure = await make_live(registry, "a")
    with pytest.raises(FailedPrecondition, match="can't be cancelled"):
        await registry.advance_erasure(erasure.id, ErasureState.LIVE, ErasureState.CANCELLED)


async def test_a_leak_takes_the_erasure_off_the_floor_and_the_rollout_back(
    registry: RegistryService, follow: Follow
) -> None:
    await follow(registry, "engine-0")
    await put_adapters(registry, "old", "a")
    await roll_out(registry, "old")
    erasure = await make_live(registry, "a")
    await registry.advance_erasure(erasure.id, ErasureState.LIVE, ErasureState.INVERTING)
    await roll_out(registry, "old")
    assert registry.hub.snapshot.floor == ()
    assert [guard.erasure_id for guard in registry.hub.snapshot.guards] == [erasure.id]


async def test_verdicts_under_another_policy_do_not_count(registry: RegistryService, follow: Follow) -> None:
    await follow(registry, "engine-0")
    await put_adapters(registry, "a")
    erasure = await make_live(registry, "a")
    with pytest.raises(BelowFloor, match=erasure.id):
        await registry.set_policy("policy-2")
    assert await registry.get_policy() == POLICY
    await registry.put_verdicts([Verdict("sha-a", erasure.id, "policy-2", True, "audit-2")])
    await registry.set_policy("policy-2")
    assert await registry.unmet("sha-a") == ()


async def test_an_alias_found_below_the_floor_at_start_is_not_served(
    open_registry: Open, registry: RegistryService, follow: Follow
) -> None:
    engine = await follow(registry, "engine-0")
    await put_adapters(registry, "a", "b")
    erasure = await make_live(registry, "a")
    await meet(registry, "b", erasure)
    await meet(registry, "a", erasure, passed=False)
    assert len(registry.hub.snapshot.rollouts) == 1
    await engine.stop()

    registry = await open_registry()
    assert registry.hub.snapshot.rollouts == ()
    events = await registry.events("rollout:default", 0, 0.0)
    (event,) = (event for event in events if event.kind == "refused_below_floor")
    assert event.data == {"generation": 2, "erasures": [erasure.id]}
    await follow(registry, "engine-0")
    await roll_out(registry, "b")  # a version that meets the floor puts it back into service
    assert [one.targets for one in registry.hub.snapshot.rollouts] == [(Target("sha-b"),)]
