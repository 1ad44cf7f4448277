import asyncio
import contextlib

from expunge.erasures.work_queue import Urgency, WorkQueue
from expunge.registry.records import JobKind, JobRecord, JobState

from .conftest import Run


async def test_erasures_go_before_other_jobs_and_each_in_order(idle: Run) -> None:
    registry = idle.service.registry
    for name in ("tune-1", "tune-2", "tune-3", "urgent-1", "urgent-2"):
        await registry.create_job(JobRecord(name, JobKind.FINE_TUNE, JobState.QUEUED))
    idle.work.held = {JobKind.FINE_TUNE}
    queue = WorkQueue(registry, idle.work, workers=1)
    first = asyncio.create_task(queue.run("tune-1", Urgency.OTHER))
    await _running(idle, "tune-1")
    others = [
        asyncio.create_task(queue.run(name, Urgency.ERASURE if "urgent" in name else Urgency.OTHER))
        for name in ("tune-2", "urgent-1", "tune-3", "urgent-2")
    ]
    await _until_waiting(idle, queue, 4)
    idle.work.hold.set()
    await asyncio.gather(first, *others)
    assert list(idle.work.jobs) == ["tune-1", "urgent-1", "urgent-2", "tune-2", "tune-3"]


async def test_giving_up_while_waiting_leaves_the_worker_to_the_next(idle: Run) -> None:
    registry = idle.service.registry
    for name in ("one", "two", "three"):
        await registry.create_job(JobRecord(name, JobKind.FINE_TUNE, JobState.QUEUED))
    idle.work.held = {JobKind.FINE_TUNE}
    queue = WorkQueue(registry, idle.work, workers=1)
    tasks = [asyncio.create_task(queue.run("one", Urgency.OTHER))]
    await _running(idle, "one")
    tasks += [asyncio.create_task(queue.run(name, Urgency.OTHER)) for name in ("two", "three")]
    await _until_waiting(idle, queue, 2)
    tasks[1].cancel()
    idle.work.hold.set()
    assert (await tasks[2]).state is JobState.SUCCEEDED
    with contextlib.suppress(asyncio.CancelledError):
        await tasks[1]
    assert list(idle.work.jobs) == ["one", "three"]


async def test_a_finished_job_needs_no_worker(idle: Run) -> None:
    registry = idle.service.registry
    await registry.create_job(JobRecord("one", JobKind.FINE_TUNE, JobState.QUEUED))
    await registry.update_job("one", state=JobState.CANCELLED)
    job = await WorkQueue(registry, idle.work, workers=0).run("one", Urgency.OTHER)
    assert job.state is JobState.CANCELLED


async def _running(run: Run, job_id: str) -> None:
    while (await run.service.registry.get_job(job_id)).state is not JobState.RUNNING:
        await run.service.registry.events(f"job:{job_id}", 0, 1.0)


async def _until_waiting(run: Run, queue: WorkQueue, count: int) -> None:
    while queue.waiting < count:
        await run.service.registry.list_jobs()
