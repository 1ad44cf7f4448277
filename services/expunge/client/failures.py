"""Failed calls as typed exceptions, with everything the service said about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from expunge.errors import ExpungeError, Violation


class CallError(ExpungeError):
    """A call that failed; its subclasses tell the statuses apart.

    Attributes:
        status: the gRPC status by name, such as "UNAVAILABLE".
        message: what happened, in the service's words.
        reason: stable UPPER_SNAKE word for programs; the status where the service gave none.
        metadata: short facts: ids, limits, `request_id`.
        violations: the fields that are wrong, or the conditions that are not met.
        retry_after_s: seconds after which the same call may succeed, where the service says so.
    """

    def __init__(
        self,
        message: str,
        *,
        status: str,
        reason: str | None = None,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[Violation] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(
            message,
            reason=reason or status,
            metadata=metadata,
            violations=violations,
            retry_after_s=retry_after_s,
        )
        self.status = status

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args[0], {**self.__dict__})

    @property
    def request_id(self) -> str:
        """Id of the call in the service's logs; "" where it never got there."""
        return self.metadata.get("request_id", "")


def _rebuild(kind: type[CallError], message: str, state: dict[str, Any]) -> CallError:
    return kind(
        message,
        **{key: state[key] for key in ("status", "reason", "metadata", "violations", "retry_after_s")},
    )


class InvalidRequest(CallError):
    """A field is wrong; `violations` names each. The same request fails again."""


class Unauthenticated(CallError):
    """No token, or one that the service does not know."""


class PermissionDenied(CallError):
    """The token's role may not call this."""


class NotFound(CallError):
    """There is no such alias."""


class AlreadyExists(CallError):
    """An object of that name exists with other contents."""


class FailedPrecondition(CallError):
    """The service is not in the state that the call needs."""


class RefusedByPolicy(FailedPrecondition):
    """The prompt is refused; asking again does not help."""


class Overloaded(CallError):
    """A queue or quota is full; `retry_after_s` says when to try again. Not retried by itself."""


class Unavailable(CallError):
    """Unreachable, draining, or its engine was lost; retries did not help, or text had come already."""


class DeadlineExceeded(CallError):
    """The timeout passed first."""


class CallCancelled(CallError):
    """The call was cancelled."""


class DataLoss(CallError):
    """Bytes do not match their digest."""


class Unimplemented(CallError):
    """This service does not have the method."""


_BY_STATUS: Mapping[grpc.StatusCode, type[CallError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.CANCELLED: CallCancelled,
    grpc.StatusCode.DATA_LOSS: DataLoss,
    grpc.StatusCode.UNIMPLEMENTED: Unimplemented,
}
_REFUSED = "REFUSED_BY_POLICY"


def call_error(error: grpc.RpcError) -> CallError:
    """The exception for a failed call, with the details the service attached (google.rpc.Status)."""
    status: grpc.StatusCode = error.code()
    reason, metadata, violations, retry_after_s = None, {}, [], None
    for packed in _details(error):
        if packed.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = _unpacked(packed, error_details_pb2.ErrorInfo)
            reason, metadata = info.reason, dict(info.metadata)
        elif packed.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = _unpacked(packed, error_details_pb2.BadRequest)
            violations += [Violation(one.field, one.description) for one in bad.field_violations]
        elif packed.Is(error_details_pb2.PreconditionFailure.DESCRIPTOR):
            unmet = _unpacked(packed, error_details_pb2.PreconditionFailure)
            violations += [Violation(one.subject, one.description) for one in unmet.violations]
        elif packed.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            delay = _unpacked(packed, error_details_pb2.RetryInfo).retry_delay
            retry_after_s = delay.ToNanoseconds() / 1e9
    kind = RefusedByPolicy if reason == _REFUSED else _BY_STATUS.get(status, CallError)
    if _was_not_begun(error):
        kind = Unavailable
    return kind(
        error.details() or status.name,
        status=status.name,
        reason=reason,
        metadata=metadata,
        violations=violations,
        retry_after_s=retry_after_s,
    )


def _was_not_begun(error: grpc.RpcError) -> bool:
    """Whether a server that leaves dropped the call before anything of the service saw it.

    gRPC then says CANCELLED, without a word more; whatever the service itself ends carries a request id, and
    what this side cancels says so.
    """
    is_bare = error.details() == "CANCELLED" and not error.trailing_metadata()
    return error.code() is grpc.StatusCode.CANCELLED and is_bare


def _details(error: grpc.RpcError) -> Sequence[Any]:
    try:
        attached = rpc_status.from_call(cast(grpc.Call, error))
    except ValueError:  # a proxy on the way changed the status and left the details of another
        return ()
    return () if attached is None else attached.details


def _unpacked(packed: Any, kind: type[Any]) -> Any:
    message = kind()
    packed.Unpack(message)
    return message
