"""What the gateway asks of its neighbours. Ray clients and in-process services fit alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Protocol

from expunge.facts import ForgetRequest
from expunge.inference.request import GenerationRequest, ScoreRequest, ScoreResult, TokenBatch
from expunge.registry.canary import CanaryPlan, CanarySpec
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
    VersionRecord,
)


class EngineUpstream(Protocol):
    """Generates and scores under a version that was already resolved."""

    def generate(self, request: GenerationRequest) -> AsyncIterator[TokenBatch]: ...

    async def score(self, request: ScoreRequest) -> ScoreResult: ...


class WatchUpstream(Protocol):
    """The part of the registry that a gateway follows."""

    async def watch(self, report: MemberReport, known_revision: int, timeout_s: float) -> Snapshot | None: ...

    async def leave(self, member: str) -> None: ...


class RegistryUpstream(WatchUpstream, Protocol):
    """The part of the registry that operators' calls use."""

    async def members(self) -> Sequence[MemberStatus]: ...

    async def put_version(self, record: VersionRecord) -> VersionRecord: ...

    async def get_version(self, id_or_name: str) -> VersionRecord: ...

    async def list_versions(self, include_retired: bool = False) -> Sequence[VersionRecord]: ...

    async def retire_version(self, id_or_name: str, principal: str) -> VersionRecord: ...

    async def unmet(self, version: str) -> Sequence[str]: ...

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
    ) -> RolloutChange: ...

    async def rollback(
        self,
        alias: str,
        expected_generation: int,
        reason: str,
        principal: str,
        timeout_s: float,
        to_version: str = "",
    ) -> RolloutChange: ...

    async def get_rollout(self, alias: str) -> Rollout: ...

    async def list_rollouts(self) -> Sequence[Rollout]: ...

    async def get_canary(self, alias: str) -> CanaryPlan | None: ...

    async def list_canaries(self) -> Sequence[CanaryPlan]: ...

    async def rollout_history(self, alias: str) -> Sequence[Rollout]: ...

    async def create_erasure(
        self, request: ForgetRequest, aliases: Sequence[str], principal: str
    ) -> ErasureRecord: ...

    async def get_erasure(self, erasure_id: str, with_request: bool = False) -> ErasureRecord: ...

    async def list_erasures(self, states: Sequence[ErasureState] = ()) -> Sequence[ErasureRecord]: ...

    async def advance_erasure(
        self,
        erasure_id: str,
        expected_state: ErasureState,
        state: ErasureState,
        *,
        detail: str = "",
        principal: str = "",
    ) -> ErasureRecord: ...

    async def create_job(self, job: JobRecord) -> JobRecord: ...

    async def get_job(self, job_id: str, with_payload: bool = False) -> JobRecord: ...

    async def list_jobs(
        self, states: Sequence[JobState] = (), kinds: Sequence[JobKind] = ()
    ) -> Sequence[JobRecord]: ...

    async def update_job(self, job_id: str, *, state: JobState, expected_state: JobState) -> JobRecord: ...

    async def events(self, topic_prefix: str, after_seq: int, timeout_s: float) -> Sequence[EventRecord]: ...

    async def list_audits(self, version: str = "", erasure_id: str = "") -> Sequence[AuditRecord]: ...

    async def get_audit(self, audit_id: str) -> AuditRecord: ...


class BlobUpstream(Protocol):
    """The part of the blob store that the gateway uses. Its calls block."""

    def get_bytes(self, key: str) -> bytes: ...

    def put_folder(self, local_folder: Path, key: str) -> None: ...

    def fetch_folder(self, key: str, local_folder: Path) -> Path: ...
