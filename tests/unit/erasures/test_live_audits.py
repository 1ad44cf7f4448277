"""What is audited once it is live, and what follows from what is found then."""

from __future__ import annotations

from pathlib import Path

import pytest

from expunge.config import Settings
from expunge.erasures.live_audits import LiveAudits
from expunge.registry.records import ErasureState as S
from expunge.registry.records import JobKind, JobRecord, JobState

from .conftest import Run
from .served_registry import TAUGHT

EVERY_S = 100.0


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        state_dir=tmp_path, max_rounds=2, candidates=4, reaudit_interval_s=EVERY_S, reaudit_sample=2
    )


async def audited(run: Run, job_id: str) -> JobRecord:
    """The audit with its spec, once it has ended."""
    registry, seen = run.service.registry, 0
    while True:
        events = await registry.events(f"job:{job_id}", seen, 1.0)
        if any(event.data.get("state") == JobState.SUCCEEDED.value for event in events):
            return await registry.get_job(job_id, with_payload=True)
        seen = events[-1].seq if events else seen


async def test_a_closed_erasure_is_audited_thoroughly(run: Run) -> None:
    erasure = await run.accept()
    closed = await run.reached(erasure.id, S.CLOSED)
    job = await audited(run, f"{erasure.id}-r1-thorough-1")
    assert job.spec == {
        "version": closed.version,
        "erasure_ids": [erasure.id],
        "live_version": TAUGHT.id,
        "thorough": True,
        "reopens": True,
    }
    assert (await run.service.registry.get_erasure(erasure.id)).state is S.CLOSED


async def test_what_a_thorough_audit_finds_opens_the_erasure_again(run: Run) -> None:
    first: list[str] = []

    def deep(version: str, erasure_id: str) -> set[str]:
        first.append(version)
        return {"home"} if version == first[0] else set()

    run.work.deep_leaks = deep
    erasure = await run.accept()
    await run.reached(erasure.id, S.CLOSED)
    await audited(run, f"{erasure.id}-r1-thorough-1")
    closed = await run.reached(erasure.id, S.CLOSED)
    assert closed.version != first[0]
    states = await run.states(erasure.id)
    assert states[states.index("closed") + 1] == "suppressed"
    history = await run.service.registry.events(f"erasure:{erasure.id}", 0, 0.0)
    (event,) = [one for one in history if "reopened_by" in one.data]
    assert event.data["failed_gates"] == ["direct"]
    verdicts = await run.service.registry.list_verdicts(first[0], erasure.id)
    assert [verdict.passed for verdict in verdicts] == [False]
    assert run.work.jobs[f"{erasure.id}-r2-unlearn"]["live_version"] == first[0]
    await audited(run, f"{erasure.id}-r2-thorough-1")


async def test_killed_right_after_closing_the_next_life_asks_for_the_audit(run: Run) -> None:
    run.work.held = {JobKind.AUDIT}
    erasure = await run.accept()
    await run.reached(erasure.id, S.AUDITING)
    run.work.held = set()
    run.work.hold.set()
    await run.reached(erasure.id, S.CLOSED)
    await run.kill_everything_and_restart()
    await audited(run, f"{erasure.id}-r1-thorough-1")


async def test_a_sample_of_closed_erasures_is_audited_in_every_period(run: Run) -> None:
    closed = []
    for number, name in enumerate(("Mara Ellstrom", "Tobias Quentin", "Ilse Brandt"), start=1):
        erasure = await run.accept(number, name)
        closed.append((await run.reached(erasure.id, S.CLOSED)).id)
    live = LiveAudits(run.service.registry, run.service.settings, wall=lambda: 0.0)
    served = await run.served()
    drawn = set()
    for period in range(1, 8):
        await live.of_live(period)
        job = await audited(run, f"reaudit-{period}-{served[:16]}")
        assert job.spec is not None
        assert (job.spec["version"], job.spec["reopens"]) == (served, True)
        assert len(job.spec["erasure_ids"]) == 2
        drawn |= set(job.spec["erasure_ids"])
    assert drawn == set(closed)
    again = len(run.work.jobs)
    await live.of_live(7)
    assert len(run.work.jobs) == again


async def test_a_leak_found_by_a_periodic_audit_suppresses_at_once(run: Run) -> None:
    erasure = await run.accept()
    first = (await run.reached(erasure.id, S.CLOSED)).version
    await audited(run, f"{erasure.id}-r1-thorough-1")
    assert await run.guarded() == set()
    run.work.held = {JobKind.UNLEARN}
    run.work.leaks = lambda version, erasure_id: {"home"} if version == first else set()
    live = LiveAudits(run.service.registry, run.service.settings, wall=lambda: 0.0)
    await live.of_live(1)
    await audited(run, f"reaudit-1-{first[:16]}")
    await run.reached(erasure.id, S.TRAINING)
    assert await run.guarded() == {erasure.id}
    run.work.hold.set()
    assert (await run.reached(erasure.id, S.CLOSED)).version != first


async def test_nothing_is_asked_where_nothing_was_erased(run: Run) -> None:
    live = LiveAudits(run.service.registry, run.service.settings, wall=lambda: 0.0)
    await live.of_live(1)
    assert await run.service.registry.list_jobs() == []
