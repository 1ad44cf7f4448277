from __future__ import annotations

from dataclasses import replace

import pytest

from expunge.errors import FailedPrecondition, NotFound, StaleGeneration
from expunge.registry.records import JobKind, JobRecord, JobState
from expunge.registry.service import RegistryService

from .conftest import accept

JOB = JobRecord("job-1", JobKind.FINE_TUNE, JobState.QUEUED, spec={"steps": 3})


async def test_create_job_is_idempotent_by_id(registry: RegistryService) -> None:
    first = await registry.create_job(JOB)
    await registry.update_job("job-1", state=JobState.RUNNING)
    again = await registry.create_job(replace(JOB, spec={"steps": 99}))
    assert again.state is JobState.RUNNING
    assert again.created_at == first.created_at
    assert (await registry.get_job("job-1", with_payload=True)).spec == {"steps": 3}


async def test_payloads_come_only_when_asked_for(registry: RegistryService) -> None:
    erasure = await accept(registry)
    await registry.create_job(replace(JOB, erasure_id=erasure.id))
    plain = await registry.get_job("job-1")
    assert (plain.spec, plain.result) == (None, None)
    await registry.update_job("job-1", result={"version": "sha-a"})
    full = await registry.get_job("job-1", with_payload=True)
    assert (full.spec, full.result) == ({"steps": 3}, {"version": "sha-a"})


async def test_update_job_is_compare_and_set(registry: RegistryService) -> None:
    await registry.create_job(JOB)
    for _ in range(2):  # the second is a repeat of the first and changes nothing
        taken = await registry.update_job(
            "job-1", state=JobState.RUNNING, worker="worker-0", attempt=1, expected_state=JobState.QUEUED
        )
        assert (taken.state, taken.worker, taken.attempt) == (JobState.RUNNING, "worker-0", 1)
    with pytest.raises(StaleGeneration, match="running, not queued"):
        await registry.update_job("job-1", worker="worker-1", expected_state=JobState.QUEUED)
    with pytest.raises(NotFound):
        await registry.update_job("job-2", state=JobState.RUNNING)


async def test_only_the_current_attempt_speaks_for_a_job(registry: RegistryService) -> None:
    await registry.create_job(JOB)
    for attempt in (1, 2):
        await registry.update_job(
            "job-1", state=JobState.RUNNING, attempt=attempt, expected_attempt=attempt - 1
        )
    with pytest.raises(StaleGeneration, match="attempt 2, not 1") as refused:
        await registry.update_job("job-1", state=JobState.SUCCEEDED, result={}, expected_attempt=1)
    assert refused.value.reason == "STALE_ATTEMPT"
    ended = await registry.update_job("job-1", state=JobState.SUCCEEDED, result={}, expected_attempt=2)
    assert ended.state is JobState.SUCCEEDED


async def test_a_finished_job_changes_only_when_its_state_is_named(registry: RegistryService) -> None:
    await registry.create_job(JOB)
    await registry.update_job("job-1", state=JobState.CANCELLED)
    with pytest.raises(FailedPrecondition, match="cancelled") as refused:
        await registry.update_job("job-1", state=JobState.SUCCEEDED, result={})
    assert refused.value.reason == "JOB_FINISHED"
    again = await registry.update_job("job-1", state=JobState.QUEUED, expected_state=JobState.CANCELLED)
    assert again.state is JobState.QUEUED


async def test_progress_and_states_are_events(registry: RegistryService) -> None:
    await registry.create_job(JOB)
    await registry.update_job("job-1", state=JobState.RUNNING)
    await registry.update_job("job-1", progress={"step": 1, "steps": 3})
    await registry.update_job("job-1", progress={"step": 1, "steps": 3})
    events = await registry.events("job:job-1", 0, 0.0)
    assert [(event.kind, event.data["state"]) for event in events] == [
        ("created", "queued"),
        ("state", "running"),
        ("progress", "running"),
    ]
    assert events[-1].data["progress"] == {"step": 1, "steps": 3}


async def test_jobs_are_listed_by_state_and_kind(registry: RegistryService) -> None:
    await registry.create_job(JOB)
    await registry.create_job(replace(JOB, id="job-2", kind=JobKind.AUDIT))
    await registry.update_job("job-2", state=JobState.RUNNING)
    assert [job.id for job in await registry.list_jobs()] == ["job-1", "job-2"]
    assert [job.id for job in await registry.list_jobs(states=[JobState.QUEUED])] == ["job-1"]
    assert [job.id for job in await registry.list_jobs(kinds=[JobKind.AUDIT])] == ["job-2"]


async def test_a_job_of_an_unknown_erasure_is_refused(registry: RegistryService) -> None:
    with pytest.raises(NotFound):
        await registry.create_job(replace(JOB, erasure_id="er-none"))
    assert await registry.list_jobs() == []
