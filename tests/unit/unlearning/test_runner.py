"""Jobs from the registry to their results, with the real registry and the tiny model, in one process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from expunge.errors import Unavailable
from expunge.registry.records import EventRecord, JobKind, JobRecord, JobState, VersionRecord
from expunge.registry.service import RegistryService
from expunge.unlearning.jobs import (
    FineTuneSpec,
    InvertResult,
    InvertSpec,
    MeasureResult,
    MeasureSpec,
    TrainedResult,
    UnlearnSpec,
)
from expunge.unlearning.runner import JobRunner

from .conftest import EXAMPLES, REQUEST, TEACH, Bench


async def test_fine_tune_registers_a_version_that_the_worker_can_answer_with(bench: Bench) -> None:
    job = await bench.done("teach", JobKind.FINE_TUNE, TEACH)
    result = TrainedResult.from_dict(job.result or {})
    version = await bench.registry.get_version("taught")
    assert (version.id, version.source, version.rank) == (result.version, "fine_tune", 16)
    assert job.progress["step"] == result.steps
    assert job.worker == "worker-0"
    assert bench.workbench.blobs.exists(version.blob)
    assert bench.workbench.blobs.list_keys("jobs/teach") == []
    bench.workbench.versions.ensure(version)
    model = bench.workbench.model
    (reply,) = model.greedy([model.chat_ids(EXAMPLES[0].question)], version.id, 24)
    assert model.decode(reply) == EXAMPLES[0].answer


async def test_an_erasure_goes_through_inversion_measurement_and_unlearning(bench: Bench) -> None:
    taught = TrainedResult.from_dict(
        (await bench.done("teach", JobKind.FINE_TUNE, TEACH)).result or {}
    ).version
    erasure = await bench.registry.create_erasure(REQUEST, ("default",), "operator")

    invert = await bench.done("i", JobKind.INVERT, InvertSpec(erasure.id, taught), erasure.id)
    candidates = InvertResult.from_dict(invert.result or {}).candidates
    assert {fact_id: len(texts) for fact_id, texts in candidates.items()} == {"f0": 4, "f1": 4}

    spec = MeasureSpec(erasure.id, taught, candidates)
    measured = MeasureResult.from_dict(
        (await bench.done("m", JobKind.MEASURE, spec, erasure.id)).result or {}
    )
    assert all(len(texts) == 3 for texts in measured.selected.values())
    assert measured.strength == pytest.approx(sum(memo["true"] for memo in measured.memo.values()) / 2)

    unlearn = UnlearnSpec(erasure.id, taught, measured.selected, steps=6, learning_rate=1e-2)
    result = TrainedResult.from_dict(
        (await bench.done("u", JobKind.UNLEARN, unlearn, erasure.id)).result or {}
    )
    version = await bench.registry.get_version(result.version)
    assert version.name == f"erasure-{erasure.id}-r1"
    assert (version.parent, version.source) == (taught, f"erasure:{erasure.id}")
    assert "forget" in result.losses


async def test_a_cancelled_job_stops_at_its_next_step_and_leaves_nothing(bench: Bench) -> None:
    spec = replace(TEACH, max_steps=5000, target_loss=0.0)
    job_id = await bench.queue("long", JobKind.FINE_TUNE, spec)
    task = asyncio.create_task(bench.runner.run(job_id))
    events = [event async for event in _training_events(bench.registry, job_id)]
    assert events
    await bench.registry.update_job(job_id, state=JobState.CANCELLED)
    assert (await task).state is JobState.CANCELLED
    assert bench.workbench.blobs.list_keys(f"jobs/{job_id}") == []


async def test_a_job_goes_on_from_its_checkpoint_on_another_worker(bench: Bench) -> None:
    spec = replace(TEACH, max_steps=14, target_loss=0.0)
    whole = await bench.done("whole", JobKind.FINE_TUNE, spec)
    key = "jobs/cut/checkpoint.safetensors"

    class Death(BaseException):
        """Stands for a kill: no handler of the job sees it."""

    put_bytes = bench.workbench.blobs.put_bytes

    def put_then_die(name: str, data: bytes) -> None:
        put_bytes(name, data)
        raise Death

    bench.workbench.blobs.put_bytes = put_then_die  # type: ignore[method-assign]
    job_id = await bench.queue("cut", JobKind.FINE_TUNE, replace(spec, name="taught-again"))
    with pytest.raises(Death):
        await bench.runner.run(job_id)
    bench.workbench.blobs.put_bytes = put_bytes  # type: ignore[method-assign]
    assert bench.workbench.blobs.exists(key)
    assert (await bench.registry.get_job(job_id)).state is JobState.RUNNING

    other = JobRunner("worker-1", bench.registry, lambda: bench.workbench)
    await other.run(job_id)
    job = await bench.registry.get_job(job_id, with_payload=True)
    assert (job.state, job.worker, job.attempt) == (JobState.SUCCEEDED, "worker-1", 2)
    assert (job.result or {})["version"] == (whole.result or {})["version"]
    assert not bench.workbench.blobs.exists(key)


async def test_a_result_that_could_not_be_stored_is_stored_by_the_next_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    update_job = bench.registry.update_job

    async def lost(job_id: str, **changes: Any) -> JobRecord:
        if changes.get("state") is JobState.SUCCEEDED:
            raise Unavailable("the registry could not be reached")
        return await update_job(job_id, **changes)

    job_id = await bench.queue("teach", JobKind.FINE_TUNE, replace(TEACH, max_steps=6, target_loss=0.0))
    monkeypatch.setattr(bench.registry, "update_job", lost)
    with pytest.raises(Unavailable):
        await bench.runner.run(job_id)
    monkeypatch.undo()
    assert bench.workbench.blobs.exists(f"jobs/{job_id}/checkpoint.safetensors")
    before = [event.data["progress"] for event in await _progress(bench.registry, job_id)]
    assert (await bench.runner.run(job_id)).state is JobState.SUCCEEDED
    after = [event.data["progress"] for event in await _progress(bench.registry, job_id)][len(before) :]
    assert [progress["step"] for progress in after if progress["stage"] == "training"] == []
    assert bench.workbench.blobs.list_keys(f"jobs/{job_id}") == []


async def test_a_repeated_training_that_ends_in_other_bits_gets_a_name_of_its_own(bench: Bench) -> None:
    erasure = await bench.registry.create_erasure(REQUEST, ("default",), "operator")
    base = bench.workbench.loaded.version
    spec = UnlearnSpec(erasure.id, base, {"f0": ["no"], "f1": ["no"]}, steps=2, learning_rate=1e-2)
    versions = []
    for number, rate in enumerate((1e-2, 2e-2)):
        job = await bench.done(f"u{number}", JobKind.UNLEARN, replace(spec, learning_rate=rate), erasure.id)
        versions.append(await bench.registry.get_version((job.result or {})["version"]))
    name = f"erasure-{erasure.id}-r1"
    assert [version.name for version in versions] == [name, f"{name}-{versions[1].id[:12]}"]


async def test_a_run_that_was_superseded_leaves_the_checkpoint_to_its_successor(bench: Bench) -> None:
    spec = replace(TEACH, max_steps=5000, target_loss=0.0)
    job_id = await bench.queue("long", JobKind.FINE_TUNE, spec)
    task = asyncio.create_task(bench.runner.run(job_id))
    assert [event async for event in _training_events(bench.registry, job_id)]
    key = f"jobs/{job_id}/checkpoint.safetensors"
    bench.workbench.blobs.put_bytes(key, b"the successor's")
    await bench.registry.update_job(job_id, worker="worker-1", attempt=2)
    left = await task
    assert (left.state, left.worker) == (JobState.RUNNING, "worker-1")
    assert bench.workbench.blobs.exists(key)


async def test_a_run_that_was_superseded_does_not_end_the_job(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_version = bench.registry.put_version

    async def superseded(record: VersionRecord) -> VersionRecord:
        await bench.registry.update_job("teach", worker="worker-1", attempt=2)
        return await put_version(record)

    monkeypatch.setattr(bench.registry, "put_version", superseded)
    job_id = await bench.queue("teach", JobKind.FINE_TUNE, replace(TEACH, max_steps=2, target_loss=0.0))
    left = await bench.runner.run(job_id)
    assert (left.state, left.attempt) == (JobState.RUNNING, 2)
    assert bench.workbench.blobs.list_keys(f"jobs/{job_id}") != []


async def test_a_job_that_can_not_be_done_fails_with_its_reason(bench: Bench) -> None:
    job_id = await bench.queue("bad", JobKind.FINE_TUNE, FineTuneSpec([], "nothing"))
    await bench.runner.run(job_id)
    job = await bench.registry.get_job(job_id)
    assert job.state is JobState.FAILED
    assert "examples" in job.error


async def _training_events(registry: RegistryService, job_id: str) -> AsyncIterator[int]:
    """Steps of the job, up to its third event of training."""
    after, seen = 0, 0
    while seen < 3:
        for event in await registry.events(f"job:{job_id}", after, 10.0):
            after = event.seq
            if event.data.get("progress", {}).get("stage") == "training":
                seen += 1
                yield event.data["progress"]["step"]


async def _progress(registry: RegistryService, job_id: str) -> list[EventRecord]:
    return [event for event in await registry.events(f"job:{job_id}", 0, 0.0) if "progress" in event.data]
