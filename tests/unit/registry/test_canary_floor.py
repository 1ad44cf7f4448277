"""Canaries and the erasure floor: alarms put them back, and nothing goes below."""

from __future__ import annotations

import pytest

from expunge.errors import BelowFloor
from expunge.registry.audits import LIVE_LEAK
from expunge.registry.canary import CanaryState
from expunge.registry.records import (
    Target,
    Verdict,
)

from .canary_scene import SPEC, Scene
from .conftest import POLICY, Follow, Open, accept, make_live, meet, roll_out


async def test_a_canary_below_the_floor_is_refused(scene: Scene) -> None:
    await make_live(scene.registry, "other")
    with pytest.raises(BelowFloor):
        await scene.begin()
    assert await scene.shares() == [("sha-other", 100)]


async def test_an_alarm_puts_the_version_back_on_every_alias_where_it_is_a_canary(scene: Scene) -> None:
    await scene.registry.set_rollout("second", [Target("sha-old")], 0, "r", "p", 5.0)
    await scene.begin()
    arguments = ("second", [Target("sha-new")], 1, "r", "p", 5.0)
    await scene.registry.set_rollout(*arguments, canary=SPEC)
    assert await scene.registry.raise_alarm("sha-other", "not a canary", "auditor") == ()
    aliases = await scene.registry.raise_alarm("sha-new", "gate general_ability not met", "auditor")
    assert aliases == ("default", "second")
    event = await scene.heard("canary_alarm")
    assert (event.principal, event.data["reason"]) == ("auditor", "gate general_ability not met")
    assert (await scene.heard("canary_rolled_back")).data["why"] == "gate general_ability not met"


async def test_a_leak_found_live_raises_the_alarm(scene: Scene) -> None:
    await scene.begin()
    erasure = await accept(scene.registry)
    leak = Verdict("sha-new", erasure.id, POLICY, False, "audit-1", (LIVE_LEAK,))
    await scene.registry.put_verdicts([leak])
    assert "leaked in live verification" in (await scene.heard("canary_rolled_back")).data["why"]


async def test_a_failed_audit_against_the_floor_raises_the_alarm_another_does_not(scene: Scene) -> None:
    live = await make_live(scene.registry, "old")
    await meet(scene.registry, "new", live)
    await scene.begin()
    pending = await accept(scene.registry, "request-2")
    await meet(scene.registry, "new", pending, passed=False)
    assert (await scene.plan()).alarm == "", "nobody has made it forget that yet"
    await meet(scene.registry, "new", live, passed=False)
    assert f"against erasure {live.id}" in (await scene.heard("canary_rolled_back")).data["why"]
    assert await scene.shares() == [("sha-old", 100)]


async def test_it_goes_back_further_where_the_version_before_no_longer_meets_the_floor(scene: Scene) -> None:
    live = await make_live(scene.registry, "other")
    for name in ("old", "new"):
        await meet(scene.registry, name, live)
    await roll_out(scene.registry, "old")
    await scene.begin()
    await meet(scene.registry, "old", live, passed=False)
    await scene.tell(10, failures=10)
    assert (await scene.heard("canary_rolled_back")).data["back_to"] == "sha-other"


async def test_where_nothing_else_may_be_served_it_stays_and_says_so(scene: Scene) -> None:
    live = await make_live(scene.registry, "old")
    await meet(scene.registry, "new", live)
    await scene.begin()
    await meet(scene.registry, "old", live, passed=False)
    await scene.tell(10, failures=10)
    event = await scene.heard("canary_stuck")
    assert "no earlier version meets the erasure floor: roll out one that does" in event.data["why"]
    assert (await scene.plan()).state is CanaryState.STUCK
    rollout = await scene.rollout()
    assert [target.version for target in rollout.targets] == ["sha-old", "sha-new"]
    assert rollout.canary == ""


async def test_a_step_that_would_split_onto_a_version_below_the_floor_is_not_made(scene: Scene) -> None:
    live = await make_live(scene.registry, "other")
    for name in ("old", "new"):
        await meet(scene.registry, name, live)
    await roll_out(scene.registry, "old")
    await scene.begin()
    await meet(scene.registry, "old", live, passed=False)
    await scene.tell(10)
    scene.pass_time(60)
    event = await scene.heard("canary_rolled_back")
    assert "sha-old is below the erasure floor" in event.data["why"]
    assert await scene.shares() == [("sha-other", 100)]


async def test_an_alarm_raised_before_a_crash_is_obeyed_after_it(
    scene: Scene, open_registry: Open, follow: Follow
) -> None:
    await scene.begin()
    scene.registry._loop.cancel()  # type: ignore[union-attr]  # it dies between alarm and rollback
    await scene.registry.raise_alarm("sha-new", "leaked", "auditor")
    assert await scene.shares() == [("sha-old", 90), ("sha-new", 10)]
    scene.registry = await open_registry(wall=scene.clock)
    await follow(scene.registry, "engine-0")
    assert (await scene.heard("canary_rolled_back")).data["back_to"] == "sha-old"
