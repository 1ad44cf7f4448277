"""Turns a failed call into one sentence with its remedy, and an exit code that scripts can tell apart."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import cast

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from expunge.errors import (
    AlreadyExists,
    ConfigError,
    DataLoss,
    ExpungeError,
    FailedPrecondition,
    InvalidRequest,
    ModelError,
    NotFound,
    Overloaded,
    PermissionDenied,
    StaleGeneration,
    Unauthenticated,
    Unavailable,
)


class ExitCode(IntEnum):
    """What the shell sees."""

    OK = 0
    FAILED = 1  # anything else, and a goal that was missed
    INVALID = 2  # bad usage or an invalid request
    DENIED = 3  # no valid token, or not allowed for its role
    NOT_FOUND = 4
    PRECONDITION = 5  # below the floor, stale generation, already exists
    UNAVAILABLE = 6  # not running, draining, overloaded or too slow: try again
    DATA_LOSS = 7
    UNIMPLEMENTED = 8
    INTERRUPTED = 130


_BY_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: ExitCode.INVALID,
    grpc.StatusCode.OUT_OF_RANGE: ExitCode.INVALID,
    grpc.StatusCode.UNAUTHENTICATED: ExitCode.DENIED,
    grpc.StatusCode.PERMISSION_DENIED: ExitCode.DENIED,
    grpc.StatusCode.NOT_FOUND: ExitCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS: ExitCode.PRECONDITION,
    grpc.StatusCode.FAILED_PRECONDITION: ExitCode.PRECONDITION,
    grpc.StatusCode.ABORTED: ExitCode.PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ExitCode.UNAVAILABLE,
    grpc.StatusCode.UNAVAILABLE: ExitCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: ExitCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS: ExitCode.DATA_LOSS,
    grpc.StatusCode.UNIMPLEMENTED: ExitCode.UNIMPLEMENTED,
    grpc.StatusCode.CANCELLED: ExitCode.INTERRUPTED,
}

_BY_ERROR: tuple[tuple[type[ExpungeError], ExitCode], ...] = (
    (InvalidRequest, ExitCode.INVALID),
    (ConfigError, ExitCode.INVALID),
    (ModelError, ExitCode.INVALID),
    (Unauthenticated, ExitCode.DENIED),
    (PermissionDenied, ExitCode.DENIED),
    (NotFound, ExitCode.NOT_FOUND),
    (AlreadyExists, ExitCode.PRECONDITION),
    (StaleGeneration, ExitCode.PRECONDITION),
    (FailedPrecondition, ExitCode.PRECONDITION),
    (Overloaded, ExitCode.UNAVAILABLE),
    (Unavailable, ExitCode.UNAVAILABLE),
    (DataLoss, ExitCode.DATA_LOSS),
)

_REMEDIES = {
    grpc.StatusCode.UNAUTHENTICATED: "Pass --token or set EXPUNGE_TOKEN; `expunge serve` names the file.",
    grpc.StatusCode.PERMISSION_DENIED: "Use a token whose role may call this.",
    grpc.StatusCode.ABORTED: "Read it again (`expunge rollout show`) and repeat with the new generation.",
    grpc.StatusCode.UNAVAILABLE: "Is it running? `expunge serve` starts it; --address names another one.",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "Try again in a moment.",
    grpc.StatusCode.DEADLINE_EXCEEDED: "Raise --timeout, or try again when the service is less busy.",
    grpc.StatusCode.UNIMPLEMENTED: "This part of the API is not built yet; the README lists what is.",
}


@dataclass(frozen=True)
class Failure:
    """What is shown of a failed call."""

    code: ExitCode
    status: str
    sentence: str
    reason: str = ""
    remedy: str = ""
    details: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, object]:
        return {
            "error": self.sentence,
            "status": self.status,
            "reason": self.reason,
            "remedy": self.remedy,
            "details": list(self.details),
        }


def of_call(error: grpc.RpcError) -> Failure:
    """The failure behind a gRPC error, with the details the server attached (google.rpc.Status)."""
    status: grpc.StatusCode = error.code()
    reason, retry, details = "", "", []
    attached = rpc_status.from_call(cast(grpc.Call, error))
    for packed in attached.details if attached is not None else ():
        if packed.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo()
            packed.Unpack(info)
            reason = info.reason
        elif packed.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest()
            packed.Unpack(bad)
            details += [f"{item.field}: {item.description}" for item in bad.field_violations]
        elif packed.Is(error_details_pb2.PreconditionFailure.DESCRIPTOR):
            unmet = error_details_pb2.PreconditionFailure()
            packed.Unpack(unmet)
            details += [
                ": ".join(filter(None, (item.subject, item.description))) for item in unmet.violations
            ]
        elif packed.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            info_retry = error_details_pb2.RetryInfo()
            packed.Unpack(info_retry)
            retry = f"Try again in {info_retry.retry_delay.ToTimedelta().total_seconds():.1f} s."
    sentence = error.details() or status.name
    remedy = retry or _REMEDIES.get(status, "")
    if status is grpc.StatusCode.UNAVAILABLE and attached is None:
        sentence = "The service can't be reached."
    elif status is grpc.StatusCode.UNAVAILABLE:
        remedy = retry  # it runs, and says itself what is wrong
    return Failure(
        code=_BY_STATUS.get(status, ExitCode.FAILED),
        status=status.name,
        sentence=sentence,
        reason=reason,
        remedy=remedy,
        details=tuple(item for item in details if item not in sentence),
    )


def of_error(error: ExpungeError) -> Failure:
    """The failure behind a domain error raised in this process (bad file, bad settings)."""
    code = next((code for kind, code in _BY_ERROR if isinstance(error, kind)), ExitCode.FAILED)
    details = tuple(f"{item.field}: {item.message}" for item in error.violations)
    return Failure(
        code=code,
        status=type(error).__name__,
        sentence=error.message,
        reason=error.reason,
        details=tuple(item for item in details if item not in error.message),
    )
