"""What live verification finds, and what follows from it."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from expunge.erasures import waiting
from expunge.erasures.report import build_report
from expunge.erasures.verification import LiveVerifier, Verification
from expunge.errors import FailedPrecondition
from expunge.registry.records import ErasureState as S
from expunge.registry.records import JobKind, JobRecord, MemberKind, MemberReport

from .conftest import Run
from .served_registry import TAUGHT


async def test_a_leak_in_live_verification_goes_back_and_trains_again(run: Run) -> None:
    run.work.held = {JobKind.AUDIT}
    erasure = await run.accept()
    await run.reached(erasure.id, S.AUDITING)
    first = (await run.service.registry.get_erasure(erasure.id)).version
    run.service.gateway.telling.add(first)
    run.work.hold.set()
    closed = await run.reached(erasure.id, S.CLOSED)
    assert closed.round == 2
    states = await run.states(erasure.id)
    assert states[7:9] == ["live", "inverting"]
    history = await run.service.registry.rollout_history("default")
    assert [rollout.targets[0].version for rollout in history] == [
        closed.version,
        TAUGHT.id,
        first,
        TAUGHT.id,
        "base:0",
    ]
    assert run.work.jobs[f"{erasure.id}-r2-unlearn"]["live_version"] == TAUGHT.id
    assert (await build_report(run.service.registry, erasure.id))["versions"]["withdrawn"] == [first]


async def test_a_leak_waits_for_replicas_to_go_back(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = run.service.registry
    run.work.held = {JobKind.AUDIT}
    erasure = await run.accept()
    await run.reached(erasure.id, S.AUDITING)
    run.service.gateway.telling.add((await registry.get_erasure(erasure.id)).version)

    async def no_replica(*arguments: object, **options: object) -> None:
        raise FailedPrecondition("no engine replica is connected", reason="VERSION_NOT_STAGED")

    monkeypatch.setattr(registry, "rollback", no_replica)
    run.work.hold.set()
    await run.until(erasure.id, lambda record: "waits for replicas" in record.detail)
    monkeypatch.undo()
    await registry.watch(MemberReport("gateway-9", MemberKind.GATEWAY, 0), 0, 0.0)  # something happens
    await registry.leave("gateway-9")
    assert (await run.reached(erasure.id, S.CLOSED)).round == 2


async def test_a_leak_in_the_last_round_leaves_the_version_before_and_the_guard(run: Run) -> None:
    run.work.leaks = lambda version, erasure_id: {"home"} if "-r1-" in version else set()
    run.work.held = {JobKind.FINE_TUNE}
    real = run.work.run

    async def tell(job_id: str) -> JobRecord:
        job = await real(job_id)
        if job_id.endswith("r2-unlearn"):
            stored = await run.service.registry.get_job(job_id, with_payload=True)
            run.service.gateway.telling.add((stored.result or {})["version"])
        return job

    run.work.run = tell  # type: ignore[method-assign]
    erasure = await run.accept()
    failed = await run.reached(erasure.id, S.FAILED)
    assert "still leaks after 2 rounds" in failed.detail
    assert await run.served() == TAUGHT.id
    assert await run.guarded() == {erasure.id}


async def test_a_probe_that_another_guard_refuses_does_not_verify(run: Run) -> None:
    run.work.held = {JobKind.AUDIT}
    first = await run.accept()
    await run.reached(first.id, S.AUDITING)
    second = await run.accept(2)  # about the same person
    audit, run.work.hold = run.work.hold, asyncio.Event()
    run.work.held = {JobKind.INVERT}  # so that the second one goes no further
    audit.set()
    waiting = await run.until(first.id, lambda record: "refused by the guard" in record.detail)
    assert waiting.state is S.LIVE
    await run.reached(second.id, S.INVERTING)
    await run.service.registry.advance_erasure(second.id, S.INVERTING, S.CANCELLED)
    await run.reached(first.id, S.CLOSED)


async def test_what_changes_during_a_verification_is_not_waited_for(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = run.service.registry
    monkeypatch.setattr(waiting, "_AGAIN_S", 3600.0)
    verify, found = LiveVerifier.verify, []

    async def miss_two_probes(self: LiveVerifier, *arguments: Any) -> Verification:
        found.append(await verify(self, *arguments))
        if len(found) > 2:
            return found[-1]
        if len(found) == 2:  # what is said is the same as before, so that only this change is told
            await registry.watch(MemberReport("gateway-9", MemberKind.GATEWAY, 0), 0, 0.0)
            await registry.leave("gateway-9")
            assert await registry.events("member:gateway-9", 0, 5.0)
        return replace(found[-1], answered=found[-1].answered - 1, unanswered=1)

    monkeypatch.setattr(LiveVerifier, "verify", miss_two_probes)
    erasure = await run.accept()
    await run.reached(erasure.id, S.CLOSED)
    assert len(found) >= 3


async def test_two_erasures_about_one_person_do_not_wait_for_each_other(run: Run) -> None:
    first = await run.accept()
    second = await run.accept(2)
    await run.reached(first.id, S.CLOSED)
    await run.reached(second.id, S.CLOSED)
