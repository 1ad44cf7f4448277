"""What a worker does for an audit: asks nothing twice, and tells the registry what follows. It computes."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

from expunge.auditing.attacks.weights import Weights
from expunge.auditing.audit import audit_version
from expunge.auditing.report import AuditReport
from expunge.auditing.rewording import reword
from expunge.errors import NotFound, StaleGeneration
from expunge.facts import ForgetRequest
from expunge.models.chat_endpoint import ChatEndpoint
from expunge.registry.records import ErasureState, Verdict, VersionRecord
from expunge.unlearning.job_run import JobRegistry, JobRun
from expunge.unlearning.jobs import AuditResult, AuditSpec
from expunge.unlearning.workbench import Workbench


@dataclass(frozen=True)
class Stored:
    """A report that the registry holds, and the audit's id there."""

    audit_id: str
    report: AuditReport


def audit(bench: Workbench, run: JobRun, spec: AuditSpec) -> AuditResult:
    """Audit one version against erasures; reports and verdicts go to the registry, one after the other.

    What the same version was asked already, against the same baseline under the same policy, is not asked
    again: a job that goes on after its worker died begins where the last report ends. Not so of a version
    that is live and may have its erasures opened again: there the question is whether it still holds.
    """
    version = run.version(spec.version)
    weights = bench.weights(version.id, bench.versions.ensure(version))
    baseline = ""
    if spec.live_version and spec.live_version != spec.version:
        live = run.version(spec.live_version)
        bench.versions.ensure(live)
        baseline = live.id
    requests = {erasure_id: run.request(erasure_id) for erasure_id in spec.erasure_ids}
    reports = {}
    for done, erasure_id in enumerate(requests):
        found = _stored(bench, run, spec, version, erasure_id, baseline)
        if found is None:
            report = _asked(bench, run, spec, weights, baseline, requests, done)
            found = Stored(f"{run.job.id}-{erasure_id}", report)
            _store(run, spec, found, erasure_id)
        reports[erasure_id] = {"audit_id": found.audit_id, **found.report.without_evidence().to_dict()}
    failed = [erasure_id for erasure_id, report in reports.items() if not report["passed"]]
    return AuditResult(reports, not failed, failed)


def _stored(
    bench: Workbench, run: JobRun, spec: AuditSpec, version: VersionRecord, erasure_id: str, baseline: str
) -> Stored | None:
    """The report of an audit that asked all that `spec` asks, if there is one."""
    if spec.reopens and not spec.thorough:
        return None
    for verdict in run.call(run.registry.list_verdicts(version.id, erasure_id)):
        if verdict.policy_digest != bench.policy.digest:
            continue
        with suppress(NotFound):  # the verdict comes from live verification, which is no audit
            record = run.call(run.registry.get_audit(verdict.audit_id))
            report = AuditReport.from_dict(record.report or {})
            if report.baseline == baseline and report.thorough >= spec.thorough:
                return Stored(verdict.audit_id, report)
    return None


def _asked(
    bench: Workbench,
    run: JobRun,
    spec: AuditSpec,
    weights: Weights,
    baseline: str,
    requests: dict[str, ForgetRequest],
    done: int,
) -> AuditReport:
    """The audit of the erasure that comes after `done` others."""

    def report_stage(stage: str, step: int, steps: int) -> None:
        run.report(stage=f"auditing:{stage}", step=done * steps + step, steps=steps * len(requests))

    erasure_id = list(requests)[done]
    report = audit_version(
        bench.model,
        weights.victim.version,
        _reworded(bench, requests[erasure_id], bench.policy.seed),
        policy=bench.policy,
        baseline=baseline,
        others=[fact for other, one in requests.items() if other != erasure_id for fact in one.facts],
        weights=weights,
        scores=bench.scores,
        thorough=spec.thorough,
        progress=report_stage,
    )
    conditions = {
        "model": bench.loaded.digest,
        "precision": str(bench.loaded.precision),
        "form": "unmerged adapter over unchanged base weights",
    }
    return replace(report, conditions=conditions)


def _store(run: JobRun, spec: AuditSpec, found: Stored, erasure_id: str) -> None:
    """Store a report and the verdict that follows from it."""
    report = found.report
    run.call(run.registry.put_audit(found.audit_id, report.version, erasure_id, report.to_dict()))
    verdict = Verdict(
        report.version,
        erasure_id,
        report.policy_digest,
        report.passed,
        found.audit_id,
        tuple(report.failed_gates),
    )
    if spec.reopens and not report.passed:
        run.call(reopen(run.registry, verdict))
    else:
        run.call(run.registry.put_verdicts([verdict]))


async def reopen(registry: JobRegistry, verdict: Verdict) -> None:
    """Open a closed erasure again, since a version that is live failed it.

    The verdict is stored with it: a registry that started in between would find an alias below the floor.
    """
    gates = ", ".join(verdict.failed_gates)
    with suppress(StaleGeneration):  # somebody has opened it already
        await registry.advance_erasure(
            verdict.erasure_id,
            ErasureState.CLOSED,
            ErasureState.SUPPRESSED,
            detail=f"opened again: live version {verdict.version} failed {gates} in audit {verdict.audit_id}",
            data={"reopened_by": verdict.audit_id, "failed_gates": list(verdict.failed_gates)},
            verdicts=[verdict],
            principal="auditor",
        )


def _reworded(bench: Workbench, request: ForgetRequest, seed: int) -> ForgetRequest:
    """The request with wordings that the configured language model writes, if there is one."""
    settings = bench.settings
    if not settings.paraphraser_url:
        return request
    endpoint = ChatEndpoint.at(settings.paraphraser_url, settings.paraphraser_model)
    return replace(request, facts=reword(request.facts, endpoint, settings.paraphrases, seed))
