"""What the registry knows, as frozen records that cross process borders.

None of them holds text of an erased fact, except `Guard` (which gateways need in memory to match prompts) and
`ErasureRecord.request` when it was asked for explicitly.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from expunge.facts import ErasureKind, ForgetRequest, Subject

if TYPE_CHECKING:
    from expunge.observability.engine_metrics import Sample


class VersionKind(StrEnum):
    BASE = "base"
    ADAPTER = "adapter"


class VersionState(StrEnum):
    READY = "ready"
    RETIRED = "retired"


@dataclass(frozen=True)
class VersionRecord:
    """One immutable version.

    `id` is "base:" + the manifest digest for the base version; for an adapter the hex sha256 over its
    safetensors bytes and canonical config (`lora.files.version_id`). `blob` is the key of its folder in the
    blob store.
    """

    id: str
    kind: VersionKind
    name: str
    base_digest: str
    rank: int = 0
    size_bytes: int = 0
    blob: str = ""
    parent: str = ""  # version it was trained from, "" where unknown
    source: str = "pushed"  # pushed | fine_tune | erasure:<id>
    state: VersionState = VersionState.READY
    created_at: float = 0.0


@dataclass(frozen=True)
class Target:
    """One version of a rollout and its share of new requests (weights sum to 100)."""

    version: str
    weight: int = 100


@dataclass(frozen=True)
class Rollout:
    """What an alias points at; `generation` rises by one at each change."""

    alias: str
    generation: int
    targets: tuple[Target, ...]
    committed_at: float = 0.0
    reason: str = ""
    principal: str = ""
    canary: str = ""  # the version that takes over step by step; "" when no canary runs


@dataclass(frozen=True)
class Guard:
    """What suppression of one erasure looks for in prompts.

    Attributes:
        secrets: spans that the operator gave.
        told: words in a row of answers of which the operator gave no span; some of them are ordinary.
    """

    erasure_id: str
    subjects: tuple[Subject, ...]
    questions: tuple[str, ...]
    secrets: tuple[str, ...] = ()
    told: tuple[str, ...] = ()


@dataclass(frozen=True)
class Snapshot:
    """Everything replicas and gateways follow; `revision` rises with every change, also across restarts."""

    revision: int
    base_version: str
    rollouts: tuple[Rollout, ...]
    wanted: tuple[VersionRecord, ...]  # must be resident: active, rollback targets, being staged
    guards: tuple[Guard, ...]
    floor: tuple[str, ...]  # erasure ids
    unroutable: tuple[str, ...] = ()  # engine members that missed a staging deadline and must get no requests


class MemberKind(StrEnum):
    GATEWAY = "gateway"
    ENGINE = "engine"


@dataclass(frozen=True)
class Outcome:
    """How many requests that were routed by one generation of an alias to one version have ended, and failed.

    Counted since the canary began, not since the last report: a report that comes twice, or is lost, changes
    nothing. What a gateway has not told when it dies is lost.
    """

    alias: str
    generation: int
    version: str
    requests: int
    failures: int


@dataclass(frozen=True)
class MemberReport:
    """What a gateway or an engine replica has applied; sent with every poll, so it is also its heartbeat."""

    member: str
    kind: MemberKind
    revision: int
    staged: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)  # version id → why it can't be staged
    address: str = ""
    leaving: bool = False
    outcomes: tuple[Outcome, ...] = ()  # of a gateway, for the aliases on which a canary runs
    samples: tuple[Sample, ...] = ()  # metrics of an engine replica, for the gateways to show


class ErasureState(StrEnum):
    ACCEPTED = "accepted"
    SUPPRESSED = "suppressed"
    INVERTING = "inverting"
    MEASURING = "measuring"
    TRAINING = "training"
    AUDITING = "auditing"
    STAGING = "staging"
    LIVE = "live"
    VERIFIED = "verified"
    CLOSED = "closed"
    CANCELLED = "cancelled"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        return self in (ErasureState.CLOSED, ErasureState.CANCELLED, ErasureState.FAILED)

    @property
    def is_on_floor(self) -> bool:
        return self in (ErasureState.LIVE, ErasureState.VERIFIED, ErasureState.CLOSED)

    @property
    def is_guarded(self) -> bool:
        """Whether gateways refuse what is in its scope; a failed one keeps its guard."""
        return self not in (ErasureState.CLOSED, ErasureState.CANCELLED)


@dataclass(frozen=True)
class ErasureRecord:
    """One erasure. `request` (the plain facts) is filled only where it was asked for."""

    id: str
    request_id: str
    kind: ErasureKind
    state: ErasureState
    aliases: tuple[str, ...]
    fact_count: int
    ground: str
    due_at: float
    created_at: float
    updated_at: float
    round: int = 1
    version: str = ""  # the version that carries it, once trained
    detail: str = ""  # why it waits, failed or was cancelled; free of fact text
    request: ForgetRequest | None = None


@dataclass(frozen=True)
class EventRecord:
    """One thing that happened. `seq` is total order within the database; `data` is free of fact text."""

    seq: int
    at: float
    topic: str  # erasure:<id> | job:<id> | rollout:<alias> | adapter:<version> | audit:<id>
    kind: str
    principal: str
    data: dict[str, Any]


class JobKind(StrEnum):
    FINE_TUNE = "fine_tune"
    INVERT = "invert"
    MEASURE = "measure"
    UNLEARN = "unlearn"
    AUDIT = "audit"


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True)
class JobRecord:
    """One piece of work for a worker. Its spec and result are encrypted at rest."""

    id: str
    kind: JobKind
    state: JobState
    erasure_id: str = ""
    worker: str = ""
    attempt: int = 0
    created_at: float = 0.0
    updated_at: float = 0.0
    progress: dict[str, Any] = field(default_factory=dict)  # {"step": 3, "steps": 16, "loss": 0.4, ...}
    error: str = ""
    spec: dict[str, Any] | None = None
    result: dict[str, Any] | None = None


@dataclass(frozen=True)
class Verdict:
    """Whether `version` meets `erasure_id` under one policy."""

    version: str
    erasure_id: str
    policy_digest: str
    passed: bool
    audit_id: str
    failed_gates: tuple[str, ...] = ()


@dataclass(frozen=True)
class MemberStatus:
    """What the registry knows of one live member.

    `last_seen` is seconds since the epoch. A member that missed its staging deadline is not `routable`: it
    must not be given requests until it reports every wanted version as staged.
    """

    member: str
    kind: MemberKind
    revision: int
    staged: tuple[str, ...]
    failed: dict[str, str]
    address: str
    last_seen: float
    routable: bool = True
    leaving: bool = False
    samples: tuple[Sample, ...] = ()  # metrics of an engine replica


@dataclass(frozen=True)
class RolloutChange:
    """A committed rollout and how long it took to reach everyone.

    `committed_at` and `confirmed_at` are seconds since the epoch; `flip_ms` runs from the commit to the last
    live member's confirmation. `unconfirmed` names members whose lease ran out before they confirmed.
    """

    rollout: Rollout
    committed_at: float
    confirmed_at: float
    flip_ms: float
    unconfirmed: tuple[str, ...] = ()


@dataclass(frozen=True)
class AuditRecord:
    """One stored audit. `report` is filled only by `get_audit`; it is encrypted at rest."""

    id: str
    version: str
    erasure_id: str
    created_at: float
    report: dict[str, Any] | None = None
