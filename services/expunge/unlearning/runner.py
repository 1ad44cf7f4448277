"""Does jobs, one at a time: reads the spec, computes in a thread of its own, stores the result."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from expunge.errors import Cancelled, ExpungeError, FailedPrecondition, StaleGeneration, Unavailable
from expunge.observability.logging import get_logger
from expunge.registry.records import JobKind, JobRecord, JobState
from expunge.unlearning.audit_stage import audit
from expunge.unlearning.job_run import JobRegistry, JobRun
from expunge.unlearning.jobs import SPECS, AuditSpec, FineTuneSpec, InvertSpec, MeasureSpec, UnlearnSpec
from expunge.unlearning.stages import invert, measure
from expunge.unlearning.training import fine_tune, unlearn
from expunge.unlearning.workbench import Workbench


class JobRunner:
    """A worker without its actor.

    Args:
        name: the worker's, recorded with every job it does.
        registry: where jobs come from and results go.
        open_bench: loads the model; called once, with the first job.
    """

    def __init__(self, name: str, registry: JobRegistry, open_bench: Callable[[], Workbench]) -> None:
        self.name = name
        self._registry = registry
        self._open_bench = open_bench
        self._bench: Workbench | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="expunge-worker")
        self._turn = asyncio.Lock()
        self._running: dict[str, asyncio.Task[JobRecord]] = {}

    @property
    def jobs(self) -> tuple[str, ...]:
        """Ids of the job in hand and of those that wait for it."""
        return tuple(self._running)

    async def run(self, job_id: str) -> JobRecord:
        """Do a job and return its record; one in hand is joined, a finished one left as it is.

        A job that fails or is cancelled ends in that state; nothing is raised for it.

        Raises:
            NotFound: no such job.
            Unavailable: the registry could not be reached; the job can be run again.
        """
        task = self._running.get(job_id)
        if task is None:
            task = asyncio.create_task(self._run(job_id))
            self._running[job_id] = task
            task.add_done_callback(lambda _: self._running.pop(job_id, None))
        return await asyncio.shield(task)

    async def warm(self) -> None:
        """Load the model now rather than with the first job. Raises ModelError."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._warm_bench)

    async def _run(self, job_id: str) -> JobRecord:
        async with self._turn:
            job = await self._registry.get_job(job_id, with_payload=True)
            if job.state.is_final:
                return job
            attempt = job.attempt + 1
            try:
                await self._registry.update_job(
                    job_id,
                    state=JobState.RUNNING,
                    worker=self.name,
                    attempt=attempt,
                    expected_attempt=job.attempt,
                )
            except (FailedPrecondition, StaleGeneration):  # cancelled, or taken by another, in between
                return await self._registry.get_job(job_id)
            return await self._compute(job, attempt)

    async def _compute(self, job: JobRecord, attempt: int) -> JobRecord:
        """Do the job and store its outcome; only then is the checkpoint of no more use to anybody."""
        loop = asyncio.get_running_loop()
        ended = await self._outcome(job, attempt, loop)
        if ended.state in (JobState.SUCCEEDED, JobState.CANCELLED):
            await loop.run_in_executor(self._thread, self._forget_checkpoint, job, attempt, loop)
        return ended

    async def _outcome(self, job: JobRecord, attempt: int, loop: asyncio.AbstractEventLoop) -> JobRecord:
        try:
            result = await loop.run_in_executor(self._thread, self._do, job, attempt, loop)
            return await self._finish(job.id, attempt, state=JobState.SUCCEEDED, result=result)
        except Cancelled:
            return await self._registry.get_job(job.id)
        except Unavailable:
            raise
        except ExpungeError as error:
            return await self._finish(job.id, attempt, state=JobState.FAILED, error=error.message)
        except Exception as error:
            # its message may quote a fact, so it is named by its type only
            get_logger().error("job_failed", job_id=job.id, job_kind=job.kind.value, exc_info=error)
            return await self._finish(
                job.id,
                attempt,
                state=JobState.FAILED,
                error=f"{job.kind.value} failed with {type(error).__name__}; the worker's log has the trace",
            )

    async def _finish(self, job_id: str, attempt: int, **changes: Any) -> JobRecord:
        """Store the outcome, unless the job was cancelled or given to another worker meanwhile."""
        try:
            return await self._registry.update_job(
                job_id, expected_state=JobState.RUNNING, expected_attempt=attempt, **changes
            )
        except (StaleGeneration, FailedPrecondition):
            return await self._registry.get_job(job_id)

    def _warm_bench(self) -> Workbench:
        if self._bench is None:
            self._bench = self._open_bench()
        return self._bench

    def _do(self, job: JobRecord, attempt: int, loop: asyncio.AbstractEventLoop) -> dict[str, Any]:
        """In the computing thread: the whole job, as a result dictionary."""
        bench = self._warm_bench()
        return _dispatch(bench, JobRun(job, attempt, self._registry, bench.blobs, loop))

    def _forget_checkpoint(self, job: JobRecord, attempt: int, loop: asyncio.AbstractEventLoop) -> None:
        """In the computing thread, once the job has ended."""
        try:
            JobRun(job, attempt, self._registry, self._warm_bench().blobs, loop).forget_checkpoint()
        except Unavailable as error:  # it takes some space; the job is done all the same
            get_logger().warning("checkpoint_kept", job_id=job.id, exc_info=error)


def _dispatch(bench: Workbench, run: JobRun) -> dict[str, Any]:
    spec = SPECS[run.job.kind].from_dict(run.job.spec or {})
    match run.job.kind:
        case JobKind.FINE_TUNE:
            return fine_tune(bench, run, cast(FineTuneSpec, spec)).to_dict()
        case JobKind.INVERT:
            return invert(bench, run, cast(InvertSpec, spec)).to_dict()
        case JobKind.MEASURE:
            return measure(bench, run, cast(MeasureSpec, spec)).to_dict()
        case JobKind.UNLEARN:
            return unlearn(bench, run, cast(UnlearnSpec, spec)).to_dict()
        case JobKind.AUDIT:
            return audit(bench, run, cast(AuditSpec, spec)).to_dict()
