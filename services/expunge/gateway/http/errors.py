"""From domain errors to HTTP: a status, headers, and the error object that OpenAI's clients read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from expunge import errors
from expunge.errors import ExpungeError

_MAX_MESSAGE_CHARS = 1_000
_RETRY_AFTER_S = 1.0


class TooLarge(errors.InvalidRequest):
    """A request's body is over the limit."""

    default_reason = "BODY_TOO_LARGE"


class TooSlow(errors.InvalidRequest):
    """A request's body did not arrive in time."""

    default_reason = "BODY_TOO_SLOW"


class NoSuchPath(errors.NotFound):
    """There is nothing at that path, or nothing for that verb."""

    default_reason = "NO_SUCH_PATH"


# The first class that an error is an instance of decides: status and type.
_KINDS: tuple[tuple[type[ExpungeError], int, str], ...] = (
    (TooLarge, 413, "invalid_request_error"),
    (TooSlow, 408, "invalid_request_error"),
    (errors.InvalidRequest, 400, "invalid_request_error"),
    (errors.RefusedByPolicy, 400, "invalid_request_error"),
    (errors.NotFound, 404, "invalid_request_error"),
    (errors.FailedPrecondition, 412, "invalid_request_error"),
    (errors.Unauthenticated, 401, "authentication_error"),
    (errors.PermissionDenied, 403, "permission_error"),
    (errors.Overloaded, 429, "rate_limit_error"),
    (errors.Unavailable, 503, "service_unavailable_error"),
    (errors.DeadlineExceeded, 504, "timeout_error"),
    (errors.Cancelled, 499, "cancelled_error"),
    (errors.Unimplemented, 501, "server_error"),
)


@dataclass(frozen=True)
class HttpError:
    """What a caller is told: `body` is {"error": {...}}."""

    status: int
    body: dict[str, object]
    headers: Mapping[str, str]


def http_error(error: Exception, request_id: str) -> HttpError:
    """What a caller is told of `error`; of one that no caller can mend, only where the log has it."""
    if not is_for_caller(error):
        message = f"internal error; the service's log has it under request {request_id}"
        return HttpError(500, _body(message, "server_error", None, "internal"), {})
    assert isinstance(error, ExpungeError)
    _, status, kind = next(found for found in _KINDS if isinstance(error, found[0]))
    param = error.violations[0].field if error.violations else None
    body = _body(error.message, kind, param or None, error.reason.lower())
    return HttpError(status, body, _headers(error, status))


def is_for_caller(error: Exception) -> bool:
    """Whether a caller can mend it, or wait; others stay in the log."""
    return any(isinstance(error, kind) for kind, *_ in _KINDS)


def _body(message: str, kind: str, param: str | None, code: str) -> dict[str, object]:
    return {"error": {"message": message[:_MAX_MESSAGE_CHARS], "type": kind, "param": param, "code": code}}


def _headers(error: ExpungeError, status: int) -> dict[str, str]:
    if status == 401:
        return {"www-authenticate": "Bearer"}
    if status not in (429, 503):
        return {}
    seconds = _RETRY_AFTER_S if error.retry_after_s is None else error.retry_after_s
    # The first is the standard's, in whole seconds; clients that know the second prefer it.
    return {"retry-after": str(math.ceil(seconds)), "retry-after-ms": str(math.ceil(seconds * 1000))}
