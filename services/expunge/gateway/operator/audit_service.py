"""AuditService: audits of versions against erasures. An audit is a job of kind AUDIT and shares its id."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from expunge.errors import FailedPrecondition, InvalidRequest, NotFound
from expunge.gateway.chain import Context
from expunge.gateway.names import check_job_id
from expunge.gateway.operator.event_stream import EventStream
from expunge.gateway.operator.floor_audit import start_audit
from expunge.gateway.operator.paging import newest_first, page_of
from expunge.gateway.operator.translation import event_message, job_state, struct, timestamp
from expunge.gateway.upstream import RegistryUpstream
from expunge.registry.records import JobKind, JobRecord, JobState
from expunge.rpc.operator.v1 import audit_pb2 as pb
from expunge.rpc.operator.v1 import audit_pb2_grpc as pb_grpc
from expunge.unlearning.jobs import AuditSpec

MAX_ERASURES = 1000


class AuditService(pb_grpc.AuditServiceServicer):
    """Starts audits and shows them; workers run them."""

    def __init__(self, registry: RegistryUpstream, stream: EventStream, default_alias: str) -> None:
        self._registry = registry
        self._stream = stream
        self._default_alias = default_alias

    async def CreateAudit(self, request: pb.CreateAuditRequest, context: Context) -> pb.CreateAuditResponse:
        check_job_id("request_id", request.request_id)
        if len(request.erasure_ids) > MAX_ERASURES:
            raise InvalidRequest.of("erasure_ids", f"at most {MAX_ERASURES} are allowed")
        version = await self._registry.get_version(request.version)
        named = [(await self._registry.get_erasure(erasure_id)).id for erasure_id in request.erasure_ids]
        erasure_ids = list(dict.fromkeys(named)) or await self._floor()
        if not erasure_ids:
            raise FailedPrecondition("no erasure is on the floor: name the erasures to audit against")
        job = await start_audit(
            self._registry, version.id, erasure_ids, self._default_alias, request.request_id
        )
        return pb.CreateAuditResponse(audit=await self._audit(job.id))

    async def GetAudit(self, request: pb.GetAuditRequest, context: Context) -> pb.GetAuditResponse:
        return pb.GetAuditResponse(audit=await self._audit(request.audit_id, with_reports=True))

    async def ListAudits(self, request: pb.ListAuditsRequest, context: Context) -> pb.ListAuditsResponse:
        jobs = newest_first(await self._registry.list_jobs(kinds=(JobKind.AUDIT,)))
        if request.version:
            version = (await self._registry.get_version(request.version)).id
            audits = [await self._audit(job.id) for job in jobs]
            page, token = page_of(
                [audit for audit in audits if audit.version == version], request.page_size, request.page_token
            )
        else:
            found, token = page_of(jobs, request.page_size, request.page_token)
            page = [await self._audit(job.id) for job in found]
        return pb.ListAuditsResponse(audits=page, next_page_token=token)

    async def WatchAudit(
        self, request: pb.WatchAuditRequest, context: Context
    ) -> AsyncIterator[pb.WatchAuditResponse]:
        job = await self._job(request.audit_id)
        topic = f"job:{job.id}"

        async def has_ended() -> bool:
            return (await self._registry.get_job(job.id)).state.is_final

        async for event in self._stream.events(
            topic, request.after_seq, wanted=lambda event: event.topic == topic, has_ended=has_ended
        ):
            state = JobState(event.data["state"])
            yield pb.WatchAuditResponse(event=event_message(event), state=job_state(state))

    async def _floor(self) -> list[str]:
        return [record.id for record in await self._registry.list_erasures() if record.state.is_on_floor]

    async def _job(self, audit_id: str) -> JobRecord:
        job = await self._registry.get_job(audit_id, with_payload=True)
        if job.kind is not JobKind.AUDIT:
            raise NotFound(f"no audit has the id {audit_id!r}; list the audits to see what exists")
        return job

    async def _audit(self, audit_id: str, *, with_reports: bool = False) -> pb.Audit:
        job = await self._job(audit_id)
        spec = AuditSpec.from_dict(job.spec or {})
        result = job.result or {}
        return pb.Audit(
            id=job.id,
            version=spec.version,
            erasure_ids=spec.erasure_ids,
            state=job_state(job.state),
            passed=result.get("passed"),
            created_at=timestamp(job.created_at),
            updated_at=timestamp(job.updated_at),
            progress=struct(job.progress),
            error=job.error,
            reports=struct(_without_evidence(result.get("reports", {}))) if with_reports else None,
        )


def _without_evidence(reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The reports without the part that holds text of facts and replies."""
    return {
        erasure_id: {key: value for key, value in report.items() if key != "evidence"}
        for erasure_id, report in reports.items()
    }
