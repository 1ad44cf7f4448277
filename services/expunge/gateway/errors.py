"""From domain errors to gRPC statuses with google.rpc details; nothing below the gateway knows statuses."""

from __future__ import annotations

from urllib.parse import quote

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from expunge import errors
from expunge.errors import ExpungeError

DOMAIN = "expunge"
_MAX_TRAILER_BYTES = 7_000  # gRPC's default limit for all trailers together is 8 KiB
_MAX_MESSAGE_CHARS = 1_000

# The first class that an error is an instance of decides.
_CODES: tuple[tuple[type[ExpungeError], grpc.StatusCode], ...] = (
    (errors.InvalidRequest, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.NotFound, grpc.StatusCode.NOT_FOUND),
    (errors.AlreadyExists, grpc.StatusCode.ALREADY_EXISTS),
    (errors.FailedPrecondition, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.StaleGeneration, grpc.StatusCode.ABORTED),
    (errors.Overloaded, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.Unavailable, grpc.StatusCode.UNAVAILABLE),
    (errors.DeadlineExceeded, grpc.StatusCode.DEADLINE_EXCEEDED),
    (errors.Cancelled, grpc.StatusCode.CANCELLED),
    (errors.Unauthenticated, grpc.StatusCode.UNAUTHENTICATED),
    (errors.PermissionDenied, grpc.StatusCode.PERMISSION_DENIED),
    (errors.DataLoss, grpc.StatusCode.DATA_LOSS),
    (errors.Unimplemented, grpc.StatusCode.UNIMPLEMENTED),
)


def code_of(error: ExpungeError) -> grpc.StatusCode:
    """The status code for a domain error; INTERNAL for those that no caller can mend."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), grpc.StatusCode.INTERNAL)


def status_of(error: ExpungeError, request_id: str) -> status_pb2.Status:
    """The google.rpc.Status for a domain error: ErrorInfo always, and the detail its code calls for.

    It fits into gRPC's trailers: where there are too many violations, the first ones are kept.
    """
    code = code_of(error)
    if code is grpc.StatusCode.INTERNAL:
        return internal_status(request_id)
    violations = list(error.violations)
    while True:
        status = _status(error, code, request_id, violations)
        if not violations or _wire_bytes(status) <= _MAX_TRAILER_BYTES:
            return status
        violations = violations[: len(violations) * 2 // 3]


def internal_status(request_id: str) -> status_pb2.Status:
    """The status for an unexpected error: an id to look up in the logs, and no internals."""
    info = error_details_pb2.ErrorInfo(reason="INTERNAL", domain=DOMAIN, metadata={"request_id": request_id})
    return status_pb2.Status(
        code=grpc.StatusCode.INTERNAL.value[0],
        message=f"internal error; the service's log has it under request {request_id}",
        details=[_packed(info)],
    )


def _status(
    error: ExpungeError, code: grpc.StatusCode, request_id: str, violations: list[errors.Violation]
) -> status_pb2.Status:
    metadata = {key: value[:256] for key, value in error.metadata.items()} | {"request_id": request_id}
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)
    details: list[Message] = [info]
    if code is grpc.StatusCode.INVALID_ARGUMENT and violations:
        details.append(_bad_request(violations))
    if code is grpc.StatusCode.FAILED_PRECONDITION:
        details.append(_precondition_failure(error, violations))
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        details.append(_quota_failure(error))
    if error.retry_after_s is not None:
        details.append(error_details_pb2.RetryInfo(retry_delay=_duration(error.retry_after_s)))
    return status_pb2.Status(
        code=code.value[0],
        message=error.message[:_MAX_MESSAGE_CHARS],
        details=[_packed(detail) for detail in details],
    )


def _bad_request(violations: list[errors.Violation]) -> error_details_pb2.BadRequest:
    return error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(field=violation.field, description=violation.message)
            for violation in violations
        ]
    )


def _precondition_failure(
    error: ExpungeError, violations: list[errors.Violation]
) -> error_details_pb2.PreconditionFailure:
    found = violations or [errors.Violation("", error.message[:_MAX_MESSAGE_CHARS])]
    return error_details_pb2.PreconditionFailure(
        violations=[
            error_details_pb2.PreconditionFailure.Violation(
                type=error.reason, subject=violation.field, description=violation.message
            )
            for violation in found
        ]
    )


def _quota_failure(error: ExpungeError) -> error_details_pb2.QuotaFailure:
    violation = error_details_pb2.QuotaFailure.Violation(
        subject=error.metadata.get("subject", "service"),
        description=error.message[:_MAX_MESSAGE_CHARS],
        quota_id=error.metadata.get("quota", ""),
        quota_value=int(error.metadata.get("limit", 0)),
    )
    return error_details_pb2.QuotaFailure(violations=[violation])


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(int(seconds * 1e9))
    return duration


def _packed(message: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed


def _wire_bytes(status: status_pb2.Status) -> int:
    """Bytes in the trailers: the details base64-coded, and the message once more, percent-coded."""
    return int(status.ByteSize()) * 4 // 3 + len(quote(status.message))
