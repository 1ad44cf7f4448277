"""The jobs of one attempt: created under ids that follow from it, so that asking twice does the work once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from expunge.config import Settings
from expunge.erasures.lineage import Attempt, Lineage
from expunge.erasures.work_queue import Urgency, WorkQueue
from expunge.errors import FailedPrecondition
from expunge.registry.records import JobKind, JobRecord, JobState
from expunge.unlearning.jobs import (
    AuditResult,
    AuditSpec,
    InvertResult,
    InvertSpec,
    MeasureResult,
    MeasureSpec,
    TrainedResult,
    UnlearnSpec,
)

if TYPE_CHECKING:
    from expunge.erasures.history import Registry

MOST_CANDIDATES = 16
MORE_STEPS = 1.5  # each further round trains for so many times the steps of the one before


class TrainingJobs:
    """Has the work of an erasure done, and reads its results back."""

    def __init__(self, registry: Registry, queue: WorkQueue, settings: Settings) -> None:
        self._registry = registry
        self._queue = queue
        self._settings = settings

    async def invert(self, attempt: Attempt, lineage: Lineage, fact_ids: Sequence[str]) -> InvertResult:
        """Inverted facts for `fact_ids` (all, when empty); twice as many candidates in each further round."""
        count = min(MOST_CANDIDATES, self._settings.candidates * 2 ** (attempt.round - 1))
        spec = InvertSpec(attempt.erasure_id, lineage.live_version, count, attempt.round, list(fact_ids))
        job_id = attempt.job_id(JobKind.INVERT, lineage)
        job = await self._done(job_id, JobKind.INVERT, attempt, spec.to_dict())
        return InvertResult.from_dict(job.result or {})

    async def measure(self, attempt: Attempt, lineage: Lineage) -> tuple[MeasureSpec, MeasureResult]:
        """MEMO and selection under the lineage's version, of the facts not yet measured under it."""
        job_id = attempt.job_id(JobKind.MEASURE, lineage)
        candidates: dict[str, list[str]] = {}
        newest: dict[str, list[str]] = {}
        for job in await self._finished(JobKind.INVERT, attempt.erasure_id):
            newest = InvertResult.from_dict(job.result or {}).candidates
            candidates |= newest
        known = await self.selected(attempt, lineage)
        wanted = {fact: texts for fact, texts in candidates.items() if fact in newest or fact not in known}
        spec = MeasureSpec(
            attempt.erasure_id,
            lineage.live_version,
            wanted,
            metric=self._settings.selection_metric,
            top_k=self._settings.selection_top_k,
            seed=attempt.round,
        )
        job = await self._done(job_id, JobKind.MEASURE, attempt, spec.to_dict())
        return MeasureSpec.from_dict(job.spec or {}), MeasureResult.from_dict(job.result or {})

    async def unlearn(self, attempt: Attempt, lineage: Lineage, floor: Sequence[str]) -> TrainedResult:
        """A version that goes on from the lineage's and has forgotten the erasure; `floor` is replayed."""
        job_id = attempt.job_id(JobKind.UNLEARN, lineage)
        others = [job for job in await self._jobs(JobKind.UNLEARN, attempt.erasure_id) if job.id != job_id]
        spec = UnlearnSpec(
            attempt.erasure_id,
            lineage.live_version,
            await self.selected(attempt, lineage),
            list(floor),
            method=self._settings.unlearning_method,
            round=len(others) + 1,  # counts trainings, so that every version has a name of its own
            steps=await self._steps(attempt),
            seed=attempt.round - 1,
        )
        job = await self._done(job_id, JobKind.UNLEARN, attempt, spec.to_dict())
        return TrainedResult.from_dict(job.result or {})

    async def audit(
        self, attempt: Attempt, lineage: Lineage, version: str, floor: Sequence[str]
    ) -> AuditResult:
        """Audits of `version` against this erasure and all on the floor; the worker stores the verdicts."""
        spec = AuditSpec(version, [attempt.erasure_id, *floor], lineage.live_version)
        job_id = attempt.job_id(JobKind.AUDIT, lineage)
        job = await self._done(job_id, JobKind.AUDIT, attempt, spec.to_dict())
        return AuditResult.from_dict(job.result or {})

    async def selected(self, attempt: Attempt, lineage: Lineage) -> dict[str, list[str]]:
        """Fact id → selected inverted facts, the latest measurement under the lineage's version first."""
        selected: dict[str, list[str]] = {}
        for job in await self._finished(JobKind.MEASURE, attempt.erasure_id):
            if (job.spec or {}).get("live_version") == lineage.live_version:
                selected |= MeasureResult.from_dict(job.result or {}).selected
        return selected

    async def meets(self, version: str, erasure_id: str) -> bool:
        """Whether an audit has shown that `version` meets the erasure under the policy in force."""
        policy = await self._registry.get_policy()
        verdicts = await self._registry.list_verdicts(version, erasure_id)
        return any(verdict.passed and verdict.policy_digest == policy for verdict in verdicts)

    async def floor(self, besides: str) -> tuple[str, ...]:
        """Ids of the erasures on the floor, other than `besides`."""
        erasures = await self._registry.list_erasures()
        return tuple(one.id for one in erasures if one.state.is_on_floor and one.id != besides)

    async def cancel(self, erasure_id: str) -> None:
        """Cancel every unfinished job of an erasure; workers stop at their next step."""
        for job in await self._registry.list_jobs((JobState.QUEUED, JobState.RUNNING)):
            if job.erasure_id == erasure_id:
                try:
                    await self._registry.update_job(job.id, state=JobState.CANCELLED)
                except FailedPrecondition:
                    continue  # it finished meanwhile

    async def _steps(self, attempt: Attempt) -> int:
        """How long to train; 0: as long as the method says."""
        if attempt.round == 1:
            return 0
        from expunge.unlearning.methods import create_method  # imports torch, which a controller seldom needs

        facts = (await self._registry.get_erasure(attempt.erasure_id)).fact_count
        training = create_method(self._settings.unlearning_method).training(facts)
        return round(training.steps * MORE_STEPS ** (attempt.round - 1))

    async def _done(self, job_id: str, kind: JobKind, attempt: Attempt, spec: dict[str, Any]) -> JobRecord:
        job = JobRecord(job_id, kind, JobState.QUEUED, erasure_id=attempt.erasure_id, spec=spec)
        creation = asyncio.create_task(self._registry.create_job(job))
        try:
            await asyncio.shield(creation)
        except asyncio.CancelledError:
            await creation  # so that whoever ends the erasure finds the job and can cancel it
            raise
        job = await self._queue.run(job_id, Urgency.ERASURE)
        if job.state is not JobState.SUCCEEDED:
            raise FailedPrecondition(
                f"job {job_id} is {job.state.value}; read its error and mend the cause",
                reason="JOB_NOT_SUCCEEDED",
                metadata={"job": job_id},
            )
        return job

    async def _jobs(self, kind: JobKind, erasure_id: str, *states: JobState) -> list[JobRecord]:
        return [
            job for job in await self._registry.list_jobs(states, (kind,)) if job.erasure_id == erasure_id
        ]

    async def _finished(self, kind: JobKind, erasure_id: str) -> list[JobRecord]:
        jobs = await self._jobs(kind, erasure_id, JobState.SUCCEEDED)
        return [await self._registry.get_job(job.id, with_payload=True) for job in jobs]
