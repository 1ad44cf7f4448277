"""What a crash, a shortage or an upgrade must not turn into a dead end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from expunge.auditing.policy import DEFAULT_POLICY
from expunge.config import Settings
from expunge.erasures.history import History
from expunge.erasures.report import read_report
from expunge.registry.records import ErasureRecord, JobKind, JobRecord, JobState, Verdict
from expunge.registry.records import ErasureState as S
from expunge.registry.service import RegistryService

from .conftest import Run
from .served_registry import TAUGHT, point, serving

FORMER_POLICY = "the policy of the release before"
Meanwhile = Callable[[RegistryService], Awaitable[None]]


async def _audited(run: Run) -> ErasureRecord:
    """An erasure whose version is about to go live; it tells the facts all the same."""
    run.work.held = {JobKind.AUDIT}
    erasure = await run.accept()
    record = await run.reached(erasure.id, S.AUDITING)
    run.service.gateway.telling.add(record.version)
    return record


async def test_killed_when_a_leak_is_found_the_alias_is_served_after_the_restart(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = run.service.registry
    advance, dead = registry.advance_erasure, asyncio.Event()

    async def die_on_the_way_back(erasure_id: str, before: S, after: S, **options: Any) -> ErasureRecord:
        if (before, after) == (S.LIVE, S.INVERTING):
            dead.set()
            await asyncio.Event().wait()
        return await advance(erasure_id, before, after, **options)

    monkeypatch.setattr(registry, "advance_erasure", die_on_the_way_back)
    leaking = await _audited(run)
    run.work.hold.set()
    await asyncio.wait_for(dead.wait(), 20)
    await run.kill_everything_and_restart()
    assert [rollout.alias for rollout in run.service.registry.hub.snapshot.rollouts] == ["default"]
    assert (await run.reached(leaking.id, S.CLOSED)).round == 2


async def test_a_leak_and_the_way_off_the_floor_are_one_transaction(run: Run) -> None:
    leaking = await _audited(run)
    run.work.hold.set()
    await run.until(leaking.id, lambda record: record.round == 2)
    events = await run.service.registry.events("", 0, 0.0)
    (leak,) = [one for one in events if one.data.get("failed_gates") == ["live_verification"]]
    (back,) = [one for one in events if one.data.get("from") == "live" and one.data["state"] == "inverting"]
    assert back.at == leak.at
    assert back.data["detail"] == "live verification brought out 2 facts; takes the version back"


async def test_killed_right_after_a_failure_the_report_is_written_by_the_next_life(idle: Run) -> None:
    registry = idle.service.registry
    erasure = await idle.accept()
    await registry.advance_erasure(erasure.id, S.ACCEPTED, S.FAILED, detail="given up")
    await idle.accept(2, "Tobias Quentin")  # newer: the events that are followed begin with it
    idle.start()
    await _event(registry, f"audit:report-{erasure.id}", "stored")
    assert (await read_report(registry, erasure.id)).report["erasure"]["detail"] == "given up"


async def test_killed_right_after_cancelling_the_jobs_are_cancelled_by_the_next_life(idle: Run) -> None:
    registry = idle.service.registry
    erasure = await idle.accept()
    job = JobRecord("left-over", JobKind.UNLEARN, JobState.QUEUED, erasure.id, spec={})
    await registry.create_job(job)
    await registry.advance_erasure(erasure.id, S.ACCEPTED, S.CANCELLED)
    await idle.accept(2, "Tobias Quentin")
    idle.start()
    await _event(registry, "job:left-over", "state")
    assert (await registry.get_job("left-over")).state is JobState.CANCELLED


async def _leak(run: Run, monkeypatch: pytest.MonkeyPatch, meanwhile: Meanwhile) -> ErasureRecord:
    """An erasure whose version leaked: `meanwhile` happens before it is written down. Held in inverting."""
    registry = run.service.registry
    advance = registry.advance_erasure

    async def act_first(erasure_id: str, before: S, after: S, **options: Any) -> ErasureRecord:
        if (before, after) == (S.LIVE, S.INVERTING):
            await meanwhile(registry)
            run.work.hold.clear()
            run.work.held = {JobKind.INVERT}
        return await advance(erasure_id, before, after, **options)

    leaking = await _audited(run)
    monkeypatch.setattr(registry, "advance_erasure", act_first)
    run.work.hold.set()
    await run.until(leaking.id, lambda record: record.round == 2)
    return leaking


async def _trains_on_from_the_one_that_leaked(run: Run, leaking: ErasureRecord) -> None:
    await _event(run.service.registry, f"job:{leaking.id}-r2-invert", "created")
    await run.kill_everything_and_restart()
    (rollout,) = run.service.registry.hub.snapshot.rollouts  # not below the floor: it is served
    assert rollout.targets[0].version == leaking.version
    assert leaking.id in {guard.erasure_id for guard in run.service.registry.hub.snapshot.guards}
    run.work.hold.set()
    closed = await run.reached(leaking.id, S.CLOSED)
    assert run.work.jobs[f"{leaking.id}-r2-unlearn"]["live_version"] == leaking.version
    assert await run.served() == closed.version
    history = await History.read(run.service.registry, leaking.id)
    assert history.latest("no_version_to_go_back_to") == {"default": leaking.version}
    details = [event.data.get("detail", "") for event in history.transitions]
    assert "no earlier version may be served on alias default: goes on from the one that leaked" in str(
        details
    )


async def test_where_the_version_before_was_retired_it_trains_on_from_the_one_that_leaked(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def retire(registry: RegistryService) -> None:
        await registry.retire_version(TAUGHT.id, "operator")

    leaking = await _leak(run, monkeypatch, retire)
    await _trains_on_from_the_one_that_leaked(run, leaking)


async def test_where_every_earlier_version_is_below_the_floor_it_trains_on_from_the_one_that_leaked(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = await run.accept(2, "Tobias Quentin")
    before = (await run.reached(earlier.id, S.CLOSED)).version

    async def condemn(registry: RegistryService) -> None:
        await registry.put_verdicts([Verdict(before, earlier.id, DEFAULT_POLICY.digest, False, "later")])

    leaking = await _leak(run, monkeypatch, condemn)
    await _trains_on_from_the_one_that_leaked(run, leaking)


async def test_without_room_for_all_successors_the_aliases_flip_one_after_the_other(tmp_path: Path) -> None:
    async with serving(Settings(state_dir=tmp_path, candidates=4, adapter_slots=3)) as service:
        run = Run(service)
        await point(service.registry, "other", "base:0")
        run.start()
        try:
            erasure = await run.accept()
            await run.reached(erasure.id, S.CLOSED)
        finally:
            await run.kill()
        served = {await run.served("default"), await run.served("other")}
        assert len(served) == 2
        assert not served & {TAUGHT.id, "base:0"}
        assert service.registry.staging.held() == ()


async def test_a_new_policy_is_put_in_force_where_the_floor_binds_nothing(idle: Run) -> None:
    await idle.service.registry.set_policy(FORMER_POLICY)
    idle.start()
    erasure = await idle.accept()
    await idle.reached(erasure.id, S.CLOSED)
    assert await idle.service.registry.get_policy() == DEFAULT_POLICY.digest


async def test_under_a_policy_that_can_not_be_put_in_force_erasures_wait_and_say_why(idle: Run) -> None:
    registry = idle.service.registry
    await registry.set_policy(FORMER_POLICY)
    earlier = await idle.accept()
    passed = Verdict(TAUGHT.id, earlier.id, FORMER_POLICY, True, "former")
    await registry.put_verdicts([passed])
    await registry.advance_erasure(earlier.id, S.ACCEPTED, S.CLOSED)
    idle.start()
    waiting = [await idle.accept(2, "Tobias Quentin"), await idle.accept(3, "Nils Farrow")]
    for erasure in waiting:
        record = await idle.until(erasure.id, lambda record: "is not in force" in record.detail)
        assert record.state is S.SUPPRESSED
        assert f"version taught does not meet erasure {earlier.id} under it" in record.detail
        assert "expunge audit run" in record.detail
    assert await registry.get_policy() == FORMER_POLICY
    assert await idle.guarded() == {erasure.id for erasure in waiting}

    await registry.put_verdicts([Verdict(TAUGHT.id, earlier.id, DEFAULT_POLICY.digest, True, "again")])
    for erasure in waiting:
        await idle.reached(erasure.id, S.CLOSED)
    assert await registry.get_policy() == DEFAULT_POLICY.digest


async def _event(registry: RegistryService, prefix: str, kind: str) -> None:
    seen = 0
    async with asyncio.timeout(20):
        while True:
            for event in await registry.events(prefix, seen, 5.0):
                seen = event.seq
                if event.kind == kind:
                    return
