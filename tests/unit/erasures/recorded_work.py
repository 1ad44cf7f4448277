"""Workers whose results were written down: jobs go through the real registry, nothing is trained."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from expunge.auditing.gate_rules import Action, GateRule, Rule
from expunge.auditing.gates import no_full_secret
from expunge.auditing.intervals import Share
from expunge.auditing.policy import DEFAULT_POLICY
from expunge.auditing.report import AuditReport, FactFinding, Figure
from expunge.registry.records import JobKind, JobRecord, JobState, Verdict, VersionKind, VersionRecord
from expunge.registry.service import RegistryService
from expunge.unlearning.audit_stage import reopen
from expunge.unlearning.jobs import AuditResult, InvertResult, MeasureResult, TrainedResult

Leaks = Callable[[str, str], set[str]]  # version, erasure id → ids of facts that leak


class RecordedWork:
    """Runs jobs as `WorkerPool` does.

    Attributes:
        jobs: specs of what was run, by job id, in order.
        leaks: facts that the audit finds to leak.
        deep_leaks: facts that only a thorough audit finds to leak.
        hold: while it is cleared, jobs of the kinds in `held` do not end.
    """

    def __init__(self, registry: RegistryService) -> None:
        self.registry = registry
        self.jobs: dict[str, dict[str, Any]] = {}
        self.leaks: Leaks = lambda version, erasure_id: set()
        self.deep_leaks: Leaks = lambda version, erasure_id: set()
        self.fails: set[JobKind] = set()
        self.held: set[JobKind] = set()
        self.hold = asyncio.Event()

    async def run(self, job_id: str) -> JobRecord:
        job = await self.registry.get_job(job_id, with_payload=True)
        if job.state.is_final:
            return job
        self.jobs[job_id] = dict(job.spec or {})
        await self.registry.update_job(
            job_id, state=JobState.RUNNING, worker="worker-0", attempt=job.attempt + 1
        )
        if job.kind in self.held:
            await self.hold.wait()
        if job.kind in self.fails:
            return await self.registry.update_job(job_id, state=JobState.FAILED, error="out of memory")
        result = await self._result(job)
        return await self.registry.update_job(job_id, state=JobState.SUCCEEDED, result=result)

    async def _result(self, job: JobRecord) -> dict[str, Any]:
        spec = job.spec or {}
        if job.kind is JobKind.INVERT:
            record = await self.registry.get_erasure(spec["erasure_id"], with_request=True)
            assert record.request is not None
            facts = spec["fact_ids"] or [fact.id for fact in record.request.facts]
            candidates = {fact: [f"{fact} lie {n}" for n in range(spec["count"])] for fact in facts}
            return InvertResult(candidates, 1).to_dict()
        if job.kind is JobKind.MEASURE:
            memo = {
                fact: {"true": 0.8, "candidates": [0.1 * n for n in range(len(texts))]}
                for fact, texts in spec["candidates"].items()
            }
            selected = {fact: texts[::-1][:3] for fact, texts in spec["candidates"].items()}
            return MeasureResult(memo, 0.8, 0.2, selected).to_dict()
        if job.kind is JobKind.AUDIT:
            return await self._audit(job, spec)
        if job.kind is JobKind.UNLEARN:
            name = f"erasure-{spec['erasure_id']}-r{spec['round']}"
            version = f"{name}-from-{spec['live_version']}"[:64]
            record_ = VersionRecord(version, VersionKind.ADAPTER, name, "0", blob=f"adapters/{version}")
            await self.registry.put_version(replace(record_, parent=spec["live_version"]))
            return TrainedResult(version, 16, 1.5, {"loss": 0.1}, True).to_dict()
        return TrainedResult("fine-tuned", 1, 0.1, {"loss": 0.1}, True).to_dict()

    async def _audit(self, job: JobRecord, spec: dict[str, Any]) -> dict[str, Any]:
        reports = {}
        for erasure_id in spec["erasure_ids"]:
            record = await self.registry.get_erasure(erasure_id, with_request=True)
            assert record.request is not None
            leaking = self.leaks(spec["version"], erasure_id)
            if spec["thorough"]:
                leaking |= self.deep_leaks(spec["version"], erasure_id)
            report = audit_report([fact.id for fact in record.request.facts], leaking, spec)
            audit_id = f"{job.id}-{erasure_id}"
            await self.registry.put_audit(audit_id, spec["version"], erasure_id, report.to_dict())
            verdict = Verdict(
                spec["version"],
                erasure_id,
                DEFAULT_POLICY.digest,
                report.passed,
                audit_id,
                report.failed_gates,
            )
            if spec["reopens"] and not report.passed:
                await reopen(self.registry, verdict)
            else:
                await self.registry.put_verdicts([verdict])
            reports[erasure_id] = {"audit_id": audit_id, **report.to_dict()}
        failed = [erasure_id for erasure_id, report in reports.items() if not report["passed"]]
        return AuditResult(reports, not failed, failed).to_dict()


def audit_report(facts: list[str], leaking: set[str], spec: dict[str, Any]) -> AuditReport:
    """A report in which `leaking` facts tell their secret when asked directly."""
    none, all_ = Share.of([False]), Share.of([True])
    hits = Share.of(fact in leaking for fact in facts)
    gate = no_full_secret(GateRule("direct", Rule.FULL_SECRETS, Action.BLOCK), hits, none)
    return AuditReport(
        request_id="request",
        version=spec["version"],
        baseline=spec["live_version"],
        policy=DEFAULT_POLICY.name,
        policy_version=DEFAULT_POLICY.version,
        policy_digest=DEFAULT_POLICY.digest,
        figures=(Figure("direct", hits, none, all_),),
        gates=(gate,),
        facts=tuple(
            FactFinding(fact, True, {"direct": all_ if fact in leaking else none}, 0.1, 0.5) for fact in facts
        ),
        retain=None,
        notes=("A recorded audit.",),
        probes=len(facts),
        seconds=0.1,
    )
