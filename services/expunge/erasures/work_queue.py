"""Who gets the next idle worker: jobs of erasures before all others, each in the order they came."""

from __future__ import annotations

import asyncio
import heapq
from enum import IntEnum
from itertools import count
from typing import TYPE_CHECKING, Protocol

from expunge.registry.records import JobRecord

if TYPE_CHECKING:
    from expunge.erasures.history import Registry


class Urgency(IntEnum):
    """Lower goes first."""

    ERASURE = 0
    OTHER = 1


class JobRunner(Protocol):
    """Runs a stored job to its end on some worker; `unlearning.pool.WorkerPool` does."""

    async def run(self, job_id: str) -> JobRecord: ...


class WorkQueue:
    """Hands jobs to a runner, at most one for each worker."""

    def __init__(self, registry: Registry, runner: JobRunner, workers: int) -> None:
        self._registry = registry
        self._runner = runner
        self._idle = workers
        self._order = count()
        self._waiting: list[tuple[Urgency, int, asyncio.Future[None]]] = []

    @property
    def waiting(self) -> int:
        """How many jobs wait for a worker."""
        return len(self._waiting)

    async def run(self, job_id: str, urgency: Urgency) -> JobRecord:
        """Run a job once a worker is free, and return it with its payload; a finished one at once."""
        place = next(self._order)
        job = await self._registry.get_job(job_id, with_payload=True)
        if job.state.is_final:
            return job
        await self._take(urgency, place)
        try:
            await self._runner.run(job_id)
        finally:
            self._give()
        return await self._registry.get_job(job_id, with_payload=True)

    async def _take(self, urgency: Urgency, place: int) -> None:
        if self._idle > 0:
            self._idle -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (urgency, place, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was handed over in the same moment
                self._give()
            raise

    def _give(self) -> None:
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._idle += 1
