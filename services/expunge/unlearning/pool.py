"""The pool of workers: gives each job to one of them, and to another when that one dies."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from ray.exceptions import RayActorError

from expunge.config import Settings
from expunge.errors import FailedPrecondition, Unavailable
from expunge.registry.records import JobRecord, JobState
from expunge.unlearning.worker import WorkerStatus, start_worker

if TYPE_CHECKING:
    from expunge.unlearning.job_run import JobRegistry

MAX_DEATHS = 5  # a job that has cost so many workers is to blame itself
_PING_S = 120.0  # a starting worker imports torch before it answers
_RESTART_S = 180.0
_RETRY_S = 0.5


class WorkerPool:
    """Workers "worker-0" to "worker-<n-1>", shared by all who know their names.

    Args:
        settings: how many workers, and theirs.
        registry: where jobs are.
    """

    def __init__(self, settings: Settings, registry: JobRegistry) -> None:
        self._settings = settings
        self._registry = registry
        self._actors: dict[str, Any] = {}
        self._idle: asyncio.Queue[str] = asyncio.Queue()

    async def start(self) -> None:
        """Find the workers, or start them. Safe to repeat."""
        for index in range(self._settings.workers):
            name = f"worker-{index}"
            if name not in self._actors:
                self._actors[name] = await asyncio.to_thread(start_worker, name, self._settings)
                self._idle.put_nowait(name)

    async def run(self, job_id: str) -> JobRecord:
        """See a job through to its end, whatever happens to workers; returns it with spec and result.

        A job that a worker has in hand already (this process may have been restarted) is joined there.

        Raises:
            NotFound: no such job.
            Unavailable: the registry can't be reached; run it again.
        """
        await self.start()
        for _ in range(MAX_DEATHS):
            job = await self._registry.get_job(job_id, with_payload=True)
            if job.state.is_final:
                return job
            holder = await self._holder(job)
            if holder:
                await self._run_on(holder, job_id)
                continue
            name = await self._idle.get()
            try:
                await self._run_on(name, job_id)
            finally:
                self._idle.put_nowait(name)
        return await self._give_up(job_id)

    async def ping(self) -> dict[str, WorkerStatus | None]:
        """Name → status of every worker, None for one that does not answer."""
        await self.start()
        names = list(self._actors)
        found = await asyncio.gather(*(self._ping(name) for name in names))
        return dict(zip(names, found, strict=True))

    async def warm(self) -> None:
        """Let every worker load the model now. Raises ModelError."""
        await self.start()
        await asyncio.gather(*(actor.warm.remote() for actor in self._actors.values()))

    async def _run_on(self, name: str, job_id: str) -> None:
        try:
            error: Unavailable | None = await self._actors[name].run.remote(job_id)
        except RayActorError:
            await self._restarted(name)
            return
        if error is not None:
            raise error

    async def _holder(self, job: JobRecord) -> str:
        """The worker that has the job in hand, "" when none has."""
        if job.state is not JobState.RUNNING or job.worker not in self._actors:
            return ""
        status = await self._ping(job.worker)
        return job.worker if status is not None and job.id in status.jobs else ""

    async def _restarted(self, name: str) -> None:
        """Wait until Ray has started a dead worker again, or until it is too late to hope for it.

        Until then its calls fail at once, and a job given to it would seem to kill one worker after another.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_RESTART_S):
                while await self._ping(name) is None:  # noqa: ASYNC110  (Ray tells nobody of a restart)
                    await asyncio.sleep(_RETRY_S)

    async def _ping(self, name: str) -> WorkerStatus | None:
        try:
            status: WorkerStatus = await asyncio.wait_for(self._actors[name].ping.remote(), _PING_S)
        except (RayActorError, TimeoutError):
            return None
        return status

    async def _give_up(self, job_id: str) -> JobRecord:
        error = f"{MAX_DEATHS} workers died of job {job_id}; look at their logs, then create a new job"
        with contextlib.suppress(FailedPrecondition):  # it ended after all
            await self._registry.update_job(job_id, state=JobState.FAILED, error=error)
        return await self._registry.get_job(job_id, with_payload=True)
