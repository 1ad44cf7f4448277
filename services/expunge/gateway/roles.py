"""Who may call what: one table from method to roles. A method that is not in it is refused to everybody."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """What a token stands for."""

    CLIENT = "client"
    OPERATOR = "operator"
    AUDITOR = "auditor"
    ADMIN = "admin"
    BREAK_GLASS = "break-glass"
    VERIFIER = "verifier"  # live verification of one erasure; never from the tokens file


_GENERATE = frozenset({Role.CLIENT, Role.OPERATOR, Role.ADMIN, Role.VERIFIER})
_OPERATE = frozenset({Role.OPERATOR, Role.ADMIN})
_READ = frozenset({Role.OPERATOR, Role.AUDITOR, Role.ADMIN})
_ANY = frozenset({Role.CLIENT, Role.OPERATOR, Role.AUDITOR, Role.ADMIN, Role.VERIFIER})

_INFERENCE = "/expunge.inference.v1.InferenceService/"
_ADAPTER = "/expunge.operator.v1.AdapterService/"
_ROLLOUT = "/expunge.operator.v1.RolloutService/"
_ERASURE = "/expunge.operator.v1.ErasureService/"
_TRAINING = "/expunge.operator.v1.TrainingService/"
_AUDIT = "/expunge.operator.v1.AuditService/"
_LEDGER = "/expunge.operator.v1.LedgerService/"

METHOD_ROLES: dict[str, frozenset[Role]] = {
    _INFERENCE + "Generate": _GENERATE,
    _INFERENCE + "GenerateStream": _GENERATE,
    _INFERENCE + "Score": _GENERATE,
    _INFERENCE + "ListModels": _ANY,
    _ADAPTER + "PushAdapter": _OPERATE,
    _ADAPTER + "DownloadAdapter": _OPERATE,
    _ADAPTER + "GetAdapter": _READ,
    _ADAPTER + "ListAdapters": _READ,
    _ADAPTER + "RetireAdapter": _OPERATE,
    _ROLLOUT + "SetRollout": _OPERATE,
    _ROLLOUT + "Rollback": _OPERATE,
    _ROLLOUT + "GetRollout": _READ,
    _ROLLOUT + "ListRollouts": _READ,
    _ROLLOUT + "WatchRollouts": _READ,
    _ROLLOUT + "RequestOverride": _OPERATE,
    _ROLLOUT + "ApproveOverride": frozenset({Role.BREAK_GLASS}),
    _ERASURE + "CreateErasure": _OPERATE,
    _ERASURE + "GetErasure": _READ,
    _ERASURE + "ListErasures": _READ,
    _ERASURE + "WatchErasure": _READ,
    _ERASURE + "CancelErasure": _OPERATE,
    _ERASURE + "ExtendErasure": _OPERATE,
    _ERASURE + "RefuseErasure": _OPERATE,
    _ERASURE + "AcknowledgeRecipient": _OPERATE,
    _ERASURE + "GetReport": _READ,
    _TRAINING + "CreateFineTune": _OPERATE,
    _TRAINING + "GetJob": _READ,
    _TRAINING + "ListJobs": _READ,
    _TRAINING + "WatchJob": _READ,
    _TRAINING + "CancelJob": _OPERATE,
    _TRAINING + "SetPool": _OPERATE,
    _AUDIT + "CreateAudit": _READ,
    _AUDIT + "GetAudit": _READ,
    _AUDIT + "ListAudits": _READ,
    _AUDIT + "WatchAudit": _READ,
    _LEDGER + "GetCheckpoint": _READ,
    _LEDGER + "GetEntry": _READ,
    _LEDGER + "ListEntries": _READ,
    _LEDGER + "GetInclusionProof": _READ,
    _LEDGER + "GetConsistencyProof": _READ,
    _LEDGER + "Export": _READ,
}

# Load balancers and probes carry no token, and neither service tells anything about served data.
PUBLIC_METHODS = frozenset(
    {
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        "/grpc.health.v1.Health/List",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    }
)


def is_allowed(method: str, role: Role) -> bool:
    """Whether `role` may call `method` ("/package.Service/Method")."""
    return role in METHOD_ROLES.get(method, frozenset())
