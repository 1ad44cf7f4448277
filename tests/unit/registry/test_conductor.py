"""Canaries in the registry: steps by time and reports, back by failures and alarms, across restarts."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from expunge.errors import FailedPrecondition, InvalidRequest, NotFound
from expunge.registry.canary import CONDUCTOR, CanarySpec, CanaryState
from expunge.registry.records import (
    MemberKind,
    Outcome,
    Target,
)

from .canary_scene import SPEC, Scene
from .conftest import Follow, Open, roll_out


async def test_a_healthy_canary_goes_from_step_to_step_to_the_whole_alias(scene: Scene) -> None:
    begun = await scene.begin()
    assert begun.rollout.canary == "sha-new"
    assert await scene.shares() == [("sha-old", 90), ("sha-new", 10)]
    for weight in (50, 100):
        await scene.tell(10)
        scene.pass_time(60)
        step = await scene.heard("canary_step")
        assert (step.data["weight"], step.principal) == (weight, CONDUCTOR)
    assert await scene.shares() == [("sha-new", 100)]
    assert (await scene.rollout()).canary == "sha-new", "it can still be put back"
    await scene.tell(10)
    scene.pass_time(60)
    await scene.heard("canary_finished")
    assert (await scene.rollout()).canary == ""
    assert (await scene.plan()).state is CanaryState.FINISHED
    history = await scene.registry.rollout_history("default")
    assert [one.generation for one in history] == [5, 4, 3, 2, 1], "each step is a rollout of its own"


async def test_neither_time_nor_requests_alone_make_a_step(scene: Scene) -> None:
    await scene.begin()
    await scene.tell(500)
    scene.pass_time(59.9)
    await scene.tell(501)
    await scene.tell(3, version="sha-old")
    assert (await scene.plan()).step == 0
    scene.pass_time(0.2)
    await scene.heard("canary_step")
    scene.pass_time(1000)
    await scene.tell(9)
    assert (await scene.plan()).step == 1
    await scene.tell(10)
    await scene.heard("canary_step")


async def test_failures_put_the_alias_back_at_once_and_say_why(scene: Scene) -> None:
    await scene.begin()
    await scene.tell(2, failures=2)
    event = await scene.heard("canary_rolled_back")
    assert event.data["why"] == "2 of 2 requests failed, above the threshold of 10.00%"
    assert (event.data["version"], event.data["back_to"]) == ("sha-new", "sha-old")
    rollout = await scene.rollout()
    assert rollout.targets == (Target("sha-old"),)
    assert (rollout.principal, rollout.canary) == (CONDUCTOR, "")
    assert "2 of 2 requests failed" in rollout.reason


async def test_failures_of_the_earlier_version_do_not_put_it_back(scene: Scene) -> None:
    await scene.begin()
    await scene.tell(100, failures=100, version="sha-old")
    await scene.tell(10)
    scene.pass_time(60)
    await scene.heard("canary_step")


async def test_it_is_put_back_from_100_percent_too(scene: Scene) -> None:
    await scene.begin(CanarySpec(steps=(100,), step_s=60.0, min_requests=10))
    assert await scene.shares() == [("sha-new", 100)]
    await scene.tell(3, failures=3)
    await scene.heard("canary_rolled_back")
    assert await scene.shares() == [("sha-old", 100)]


async def test_what_a_canary_may_go_back_to_is_not_retired(scene: Scene) -> None:
    await scene.begin(CanarySpec(steps=(100,), step_s=60.0, min_requests=0))
    with pytest.raises(FailedPrecondition, match="in use by default"):
        await scene.registry.retire_version("old", "operator")
    scene.pass_time(60)
    await scene.heard("canary_finished")
    await scene.registry.retire_version("old", "operator")


async def test_a_report_that_comes_twice_or_late_counts_once(scene: Scene, follow: Follow) -> None:
    await scene.begin()
    await scene.tell(5)
    await scene.gateway.poll()
    second = await follow(scene.registry, "gateway-1", MemberKind.GATEWAY)
    second.outcomes = (Outcome("default", 3, "sha-new", 4, 1), Outcome("default", 3, "sha-old", 40, 2))
    await second.poll()
    second.outcomes = (Outcome("default", 3, "sha-new", 2, 0),)  # sent before, delivered after
    await second.poll()
    tally = (await scene.plan()).now_tally
    assert (tally.version.requests, tally.version.failures) == (9, 1)
    assert (tally.stable.requests, tally.stable.failures) == (40, 2)


async def test_what_does_not_belong_to_the_canary_is_not_counted(scene: Scene) -> None:
    await scene.begin()
    scene.gateway.outcomes = (
        Outcome("default", 99, "sha-new", 5, 5),
        Outcome("default", 2, "sha-new", 5, 5),
        Outcome("default", 3, "sha-other", 5, 5),
        Outcome("elsewhere", 3, "sha-new", 5, 5),
    )
    await scene.gateway.poll()
    assert (await scene.plan()).tallies == {}


async def test_a_manual_rollout_or_rollback_ends_it(scene: Scene) -> None:
    await scene.begin()
    await roll_out(scene.registry, "other")
    event = await scene.heard("canary_ended")
    assert (event.principal, event.data["version"]) == ("tester", "sha-new")
    assert (await scene.rollout()).canary == ""
    await scene.begin()
    generation = (await scene.rollout()).generation
    back = await scene.registry.rollback("default", generation, "no", "operator", 5.0, to_version="sha-other")
    assert back.rollout.canary == ""
    await scene.heard("canary_ended")
    scene.pass_time(10_000)
    await scene.tell(100, failures=100)
    assert await scene.shares() == [("sha-other", 100)]


async def test_a_rollback_while_it_runs_goes_to_the_version_before_it(scene: Scene) -> None:
    await scene.begin()
    generation = (await scene.rollout()).generation
    back = await scene.registry.rollback("default", generation, "no", "operator", 5.0)
    assert back.rollout.targets == (Target("sha-old"),)


async def test_a_second_canary_is_refused_while_one_runs(scene: Scene) -> None:
    await scene.begin()
    with pytest.raises(FailedPrecondition, match="roll back, or set the rollout without a canary") as caught:
        await scene.begin(version="sha-other")
    assert caught.value.reason == "CANARY_RUNNING"
    assert await scene.shares() == [("sha-old", 90), ("sha-new", 10)]


async def test_a_repeated_call_answers_with_its_own_canary(scene: Scene) -> None:
    first = await scene.begin()
    arguments = ("default", [Target("sha-new")], 2, "try it", "operator", 5.0)
    again = await scene.registry.set_rollout(*arguments, canary=SPEC)
    assert again.rollout == first.rollout
    assert len(await scene.registry.rollout_history("default")) == 3


@pytest.mark.parametrize(
    ("targets", "error"),
    [
        ([Target("sha-old")], FailedPrecondition),
        ([Target("sha-missing")], NotFound),
        ([Target("sha-new", 50), Target("sha-old", 50)], InvalidRequest),
    ],
)
async def test_a_canary_that_makes_no_sense_is_refused(
    scene: Scene, targets: Sequence[Target], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await scene.registry.set_rollout("default", targets, 2, "r", "operator", 5.0, canary=SPEC)
    with pytest.raises(NotFound):
        await scene.registry.set_rollout("new-alias", [Target("sha-new")], 0, "r", "p", 5.0, canary=SPEC)
    assert await scene.registry.list_canaries() == []


async def test_an_alias_that_is_split_takes_no_canary(scene: Scene) -> None:
    split = [Target("sha-old", 50), Target("sha-other", 50)]
    await scene.registry.set_rollout("default", split, 2, "by hand", "operator", 5.0)
    with pytest.raises(FailedPrecondition, match="split over several versions"):
        await scene.begin()


async def test_a_restarted_registry_goes_on_from_its_step_with_what_was_told(
    scene: Scene, open_registry: Open, follow: Follow
) -> None:
    await scene.begin()
    await scene.tell(10)
    scene.pass_time(60)
    await scene.heard("canary_step")
    await scene.tell(7)
    before = await scene.plan()
    again = await open_registry(wall=scene.clock)
    after = await again.get_canary("default")
    assert after == before
    await follow(again, "engine-0")
    scene.registry, scene.gateway = again, await follow(again, "gateway-0", MemberKind.GATEWAY)
    scene.pass_time(60)
    await scene.tell(12)
    assert (await scene.heard("canary_step")).data["weight"] == 100
