"""The registry as other processes see it: the methods of `RegistryService`, over Ray.

Calls are repeated while the actor restarts, for one lease at most. An operation whose outcome is unknown may
therefore run twice; each method of the service says why that is safe. Domain errors come through unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from expunge.facts import ForgetRequest
from expunge.registry.canary import CanaryPlan, CanarySpec
from expunge.registry.connection import ACTOR_NAME, NAMESPACE, Connection
from expunge.registry.records import (
    AuditRecord,
    ErasureRecord,
    ErasureState,
    EventRecord,
    JobKind,
    JobRecord,
    JobState,
    MemberReport,
    MemberStatus,
    Rollout,
    RolloutChange,
    Snapshot,
    Target,
    Verdict,
    VersionRecord,
)

__all__ = ["ACTOR_NAME", "NAMESPACE", "RegistryClient"]


class RegistryClient:
    """Talks to the detached actor "registry". Picklable; needs a process that is connected to Ray.

    What each method does, raises, and why it may be repeated is documented at the service's method of the
    same name. Moreover each raises Unavailable when the registry can't be reached for a whole lease.

    Args:
        lease_s: how long calls are repeated while the registry can't be reached, in seconds.
    """

    def __init__(self, lease_s: float = 15.0, name: str = ACTOR_NAME, namespace: str = NAMESPACE) -> None:
        self._connection = Connection(lease_s, name, namespace)

    async def process_id(self) -> int:
        """Process id of the registry on its node; another after each restart."""
        return cast(int, await self._connection.call("process_id"))

    # members

    async def watch(self, report: MemberReport, known_revision: int, timeout_s: float) -> Snapshot | None:
        """See `Members.watch`."""
        answer = await self._connection.call("watch", report, known_revision, timeout_s, patience_s=timeout_s)
        return cast(Snapshot | None, answer)

    async def leave(self, member: str) -> None:
        """See `Members.leave`."""
        await self._connection.call("leave", member)

    async def members(self) -> list[MemberStatus]:
        """See `Members.members`."""
        return cast(list[MemberStatus], await self._connection.call("members"))

    # versions

    async def ensure_base(self, record: VersionRecord) -> None:
        """See `Versions.ensure_base`."""
        await self._connection.call("ensure_base", record)

    async def put_version(self, record: VersionRecord) -> VersionRecord:
        """See `Versions.put_version`."""
        return cast(VersionRecord, await self._connection.call("put_version", record))

    async def get_version(self, id_or_name: str) -> VersionRecord:
        """See `Versions.get_version`."""
        return cast(VersionRecord, await self._connection.call("get_version", id_or_name))

    async def list_versions(self, include_retired: bool = False) -> list[VersionRecord]:
        """See `Versions.list_versions`."""
        return cast(list[VersionRecord], await self._connection.call("list_versions", include_retired))

    async def retire_version(self, id_or_name: str, principal: str) -> VersionRecord:
        """See `Versions.retire_version`."""
        return cast(VersionRecord, await self._connection.call("retire_version", id_or_name, principal))

    # rollouts

    async def set_rollout(
        self,
        alias: str,
        targets: Sequence[Target],
        expected_generation: int,
        reason: str,
        principal: str,
        timeout_s: float,
        erasure_id: str = "",
        canary: CanarySpec | None = None,
    ) -> RolloutChange:
        """See `Rollouts.set_rollout`."""
        answer = await self._connection.call(
            "set_rollout",
            alias,
            tuple(targets),
            expected_generation,
            reason,
            principal,
            timeout_s,
            erasure_id,
            canary,
            patience_s=timeout_s,
        )
        return cast(RolloutChange, answer)

    async def rollback(
        self,
        alias: str,
        expected_generation: int,
        reason: str,
        principal: str,
        timeout_s: float,
        to_version: str = "",
    ) -> RolloutChange:
        """See `Rollouts.rollback`."""
        answer = await self._connection.call(
            "rollback",
            alias,
            expected_generation,
            reason,
            principal,
            timeout_s,
            to_version,
            patience_s=timeout_s,
        )
        return cast(RolloutChange, answer)

    async def get_rollout(self, alias: str) -> Rollout:
        """See `Rollouts.get_rollout`."""
        return cast(Rollout, await self._connection.call("get_rollout", alias))

    async def list_rollouts(self) -> list[Rollout]:
        """See `Rollouts.list_rollouts`."""
        return cast(list[Rollout], await self._connection.call("list_rollouts"))

    async def rollout_history(self, alias: str) -> list[Rollout]:
        """See `Rollouts.rollout_history`."""
        return cast(list[Rollout], await self._connection.call("rollout_history", alias))

    async def get_canary(self, alias: str) -> CanaryPlan | None:
        """See `Conductor.get_canary`."""
        return cast(CanaryPlan | None, await self._connection.call("get_canary", alias))

    async def list_canaries(self) -> list[CanaryPlan]:
        """See `Conductor.list_canaries`."""
        return cast(list[CanaryPlan], await self._connection.call("list_canaries"))

    async def raise_alarm(self, version: str, reason: str, principal: str) -> tuple[str, ...]:
        """See `Conductor.raise_alarm`."""
        answer = await self._connection.call("raise_alarm", version, reason, principal)
        return cast(tuple[str, ...], answer)

    async def unmet(self, version: str) -> tuple[str, ...]:
        """See `Rollouts.unmet`."""
        return cast(tuple[str, ...], await self._connection.call("unmet", version))

    async def stage(self, version: str, timeout_s: float) -> tuple[str, ...]:
        """See `Rollouts.stage`."""
        answer = await self._connection.call("stage", version, timeout_s, patience_s=timeout_s)
        return cast(tuple[str, ...], answer)

    async def unstage(self, version: str) -> None:
        """See `Rollouts.unstage`."""
        await self._connection.call("unstage", version)

    # erasures

    async def create_erasure(
        self, request: ForgetRequest, aliases: Sequence[str], principal: str
    ) -> ErasureRecord:
        """See `Erasures.create_erasure`."""
        answer = await self._connection.call("create_erasure", request, tuple(aliases), principal)
        return cast(ErasureRecord, answer)

    async def get_erasure(self, erasure_id: str, with_request: bool = False) -> ErasureRecord:
        """See `Erasures.get_erasure`."""
        return cast(ErasureRecord, await self._connection.call("get_erasure", erasure_id, with_request))

    async def list_erasures(self, states: Iterable[ErasureState] = ()) -> list[ErasureRecord]:
        """See `Erasures.list_erasures`."""
        return cast(list[ErasureRecord], await self._connection.call("list_erasures", tuple(states)))

    async def advance_erasure(
        self,
        erasure_id: str,
        expected_state: ErasureState,
        state: ErasureState,
        *,
        detail: str = "",
        version: str = "",
        round: int | None = None,
        data: Mapping[str, Any] | None = None,
        verdicts: Sequence[Verdict] = (),
        principal: str = "controller",
    ) -> ErasureRecord:
        """See `Erasures.advance_erasure`."""
        answer = await self._connection.call(
            "advance_erasure",
            erasure_id,
            expected_state,
            state,
            detail=detail,
            version=version,
            round=round,
            data=dict(data) if data is not None else None,
            verdicts=tuple(verdicts),
            principal=principal,
        )
        return cast(ErasureRecord, answer)

    async def await_guard(self, erasure_id: str, timeout_s: float) -> float:
        """See `Erasures.await_guard`."""
        answer = await self._connection.call("await_guard", erasure_id, timeout_s, patience_s=timeout_s)
        return cast(float, answer)

    # jobs

    async def create_job(self, job: JobRecord) -> JobRecord:
        """See `Jobs.create_job`."""
        return cast(JobRecord, await self._connection.call("create_job", job))

    async def get_job(self, job_id: str, with_payload: bool = False) -> JobRecord:
        """See `Jobs.get_job`."""
        return cast(JobRecord, await self._connection.call("get_job", job_id, with_payload))

    async def list_jobs(
        self, states: Iterable[JobState] = (), kinds: Iterable[JobKind] = ()
    ) -> list[JobRecord]:
        """See `Jobs.list_jobs`."""
        return cast(list[JobRecord], await self._connection.call("list_jobs", tuple(states), tuple(kinds)))

    async def update_job(
        self,
        job_id: str,
        *,
        state: JobState | None = None,
        worker: str | None = None,
        attempt: int | None = None,
        progress: Mapping[str, Any] | None = None,
        result: Mapping[str, Any] | None = None,
        error: str | None = None,
        expected_state: JobState | None = None,
        expected_attempt: int | None = None,
    ) -> JobRecord:
        """See `Jobs.update_job`."""
        answer = await self._connection.call(
            "update_job",
            job_id,
            state=state,
            worker=worker,
            attempt=attempt,
            progress=dict(progress) if progress is not None else None,
            result=dict(result) if result is not None else None,
            error=error,
            expected_state=expected_state,
            expected_attempt=expected_attempt,
        )
        return cast(JobRecord, answer)

    # audits

    async def put_verdicts(self, verdicts: Sequence[Verdict]) -> None:
        """See `Audits.put_verdicts`."""
        await self._connection.call("put_verdicts", tuple(verdicts))

    async def list_verdicts(self, version: str = "", erasure_id: str = "") -> list[Verdict]:
        """See `Audits.list_verdicts`."""
        return cast(list[Verdict], await self._connection.call("list_verdicts", version, erasure_id))

    async def set_policy(self, digest: str) -> None:
        """See `Audits.set_policy`."""
        await self._connection.call("set_policy", digest)

    async def get_policy(self) -> str:
        """See `Audits.get_policy`."""
        return cast(str, await self._connection.call("get_policy"))

    async def put_audit(
        self, audit_id: str, version: str, erasure_id: str, report: Mapping[str, Any]
    ) -> AuditRecord:
        """See `Audits.put_audit`."""
        answer = await self._connection.call("put_audit", audit_id, version, erasure_id, dict(report))
        return cast(AuditRecord, answer)

    async def get_audit(self, audit_id: str) -> AuditRecord:
        """See `Audits.get_audit`."""
        return cast(AuditRecord, await self._connection.call("get_audit", audit_id))

    async def list_audits(self, version: str = "", erasure_id: str = "") -> list[AuditRecord]:
        """See `Audits.list_audits`."""
        return cast(list[AuditRecord], await self._connection.call("list_audits", version, erasure_id))

    # events

    async def events(self, topic_prefix: str, after_seq: int, timeout_s: float) -> list[EventRecord]:
        """See `Events.events`."""
        answer = await self._connection.call(
            "events", topic_prefix, after_seq, timeout_s, patience_s=timeout_s
        )
        return cast(list[EventRecord], answer)
