"""The controller: one task for each erasure that is under way and for each job that nobody else waits for.

It keeps nothing that is not in the registry. After a crash it reads what is unfinished and goes on; what
it had begun is either found done or done again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from expunge.auditing.policy import Policy
from expunge.config import Settings
from expunge.erasures.driver import Driver
from expunge.erasures.event_feed import EventFeed
from expunge.erasures.live_audits import LiveAudits
from expunge.erasures.machine import EXCLUSIVE
from expunge.erasures.policy_switch import put_policy_in_force
from expunge.erasures.report import has_report
from expunge.erasures.steps import Steps, Verifier
from expunge.erasures.training_jobs import TrainingJobs
from expunge.erasures.waiting import Waiting
from expunge.erasures.work_queue import JobRunner, Urgency, WorkQueue
from expunge.errors import ExpungeError, FailedPrecondition, Unavailable
from expunge.observability.logging import get_logger
from expunge.registry.records import ErasureRecord, ErasureState, EventRecord, JobState

if TYPE_CHECKING:
    from expunge.erasures.history import Registry

_AGAIN_S = 1.0
_UNFINISHED = (JobState.QUEUED, JobState.RUNNING)
_log = get_logger()


class ErasureController:
    """Drives every erasure to its end and hands out the jobs that operators asked for.

    Args:
        runner: runs jobs on workers; at most `settings.workers` at a time.
        verifier: asks probes through live gateways.
        wall: epoch seconds.
    """

    def __init__(
        self,
        registry: Registry,
        runner: JobRunner,
        verifier: Verifier,
        settings: Settings,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._registry = registry
        self._feed = EventFeed(registry)
        self._queue = WorkQueue(registry, runner, settings.workers)
        jobs = TrainingJobs(registry, self._queue, settings)
        self._policy = Policy.of(settings)
        waiting = Waiting(registry, self._feed, self._policy, wall)
        steps = Steps(registry, jobs, verifier, self._feed, waiting, settings)
        self._driver = Driver(registry, steps, jobs, self._feed, waiting)
        self._live_audits = LiveAudits(registry, settings, wall)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Go on with everything unfinished, then follow what comes, until cancelled."""
        if missing := await put_policy_in_force(self._registry, self._policy):
            _log.error("policy_not_in_force", detail=missing)
        after_seq = await self._latest_seq()
        self._feed.on_event(self._hear)
        for record in sorted(await self._unfinished(), key=_resumption_order):
            self._start_erasure(record.id)
        for record in await self._registry.list_erasures([ErasureState.CLOSED]):
            if self._live_audits.missed(record):
                self._start_live_audit(record.id)
        self._start("live-audits", self._live_audits.periodically)
        for job in await self._registry.list_jobs(_UNFINISHED):
            if not job.erasure_id:
                self._start_job(job.id)
        _log.info("controller_started", count=len(self._tasks))
        try:
            await self._feed.run(after_seq)
        finally:
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _unfinished(self) -> list[ErasureRecord]:
        """Erasures under way, and those that have ended without their report or with jobs left over."""
        at_work = {job.erasure_id for job in await self._registry.list_jobs(_UNFINISHED)}
        return [
            one
            for one in await self._registry.list_erasures()
            if not one.state.is_final
            or one.id in at_work
            or (one.state is ErasureState.FAILED and not await has_report(self._registry, one))
        ]

    async def _latest_seq(self) -> int:
        """A place in the events not long ago; what is listed after this call covers everything before it."""
        erasures = await self._registry.list_erasures()
        if not erasures:
            return 0
        newest = max(erasures, key=lambda record: record.updated_at)
        events = await self._registry.events(f"erasure:{newest.id}", 0, 0.0)
        return events[-1].seq if events else 0

    def _hear(self, event: EventRecord) -> None:
        kind, _, name = event.topic.partition(":")
        if kind == "erasure" and event.kind in ("accepted", "state"):
            self._start_erasure(name)
            if event.data.get("state") == ErasureState.CLOSED.value:
                self._start_live_audit(name)
        elif kind == "job" and event.kind == "created" and not event.data.get("erasure_id"):
            self._start_job(name)

    def _start_erasure(self, erasure_id: str) -> None:
        self._start(f"erasure:{erasure_id}", lambda: self._driver.drive(erasure_id))

    def _start_live_audit(self, erasure_id: str) -> None:
        self._start(f"live-audit:{erasure_id}", lambda: self._live_audits.of_closed(erasure_id))

    def _start_job(self, job_id: str) -> None:
        self._start(f"job:{job_id}", lambda: self._run_job(job_id))

    def _start(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start `work` unless it is under way; it is started again should it break."""
        if name not in self._tasks:
            task = asyncio.create_task(self._until_done(name, work), name=name)
            self._tasks[name] = task
            task.add_done_callback(lambda _: self._tasks.pop(name, None))

    async def _until_done(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            try:
                await work()
            except Exception as error:
                _log.error("task_broke", detail=name, exc_info=error)
                await asyncio.sleep(_AGAIN_S)
            else:
                return

    async def _run_job(self, job_id: str) -> None:
        try:
            await self._queue.run(job_id, Urgency.OTHER)
        except Unavailable:
            raise
        except ExpungeError as error:
            _log.error("job_failed", job_id=job_id, exc_info=error)
            try:
                await self._registry.update_job(job_id, state=JobState.FAILED, error=error.message)
            except FailedPrecondition:
                return  # it is finished already


def _resumption_order(record: ErasureRecord) -> tuple[bool, float, str]:
    """Those that were training go first, so that they keep their turn; then the oldest."""
    return record.state not in EXCLUSIVE, record.created_at, record.id
