"""Domain errors. Each says what happened, to which object, and what to do about it.

Only the gateway translates them into gRPC statuses and HTTP codes; nothing below it knows either.
Every error survives pickling unchanged, so that it can cross process borders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_LISTED = 10  # violations that a message tells; `violations` holds them all


@dataclass(frozen=True)
class Violation:
    """One thing that is wrong: the field (or object) it concerns, and the remedy."""

    field: str
    message: str


class ExpungeError(Exception):
    """Base of all domain errors.

    Args:
        message: what happened, to which object, and what to do.
        reason: stable UPPER_SNAKE word for programs; defaults to the class's own.
        metadata: short facts for programs (ids, limits); never secrets, never prompt text.
        violations: every problem found, when there is more than one.
        retry_after_s: seconds after which the same call may succeed, when that is known.
    """

    default_reason = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[Violation] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.metadata = dict(metadata or {})
        self.violations = tuple(violations)
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (
            type(self),
            self.message,
            self.reason,
            self.metadata,
            self.violations,
            self.retry_after_s,
        )


def _rebuild(
    kind: type[ExpungeError],
    message: str,
    reason: str,
    metadata: Mapping[str, str],
    violations: Sequence[Violation],
    retry_after_s: float | None,
) -> ExpungeError:
    return kind(message, reason=reason, metadata=metadata, violations=violations, retry_after_s=retry_after_s)


class InvalidRequest(ExpungeError):
    """The caller's input is wrong; `violations` names each field and its remedy."""

    default_reason = "INVALID_REQUEST"

    @classmethod
    def of(cls, field: str, message: str) -> InvalidRequest:
        """The error for one bad field."""
        return cls(f"{field}: {message}", violations=[Violation(field, message)])

    @classmethod
    def of_all(cls, violations: Sequence[Violation]) -> InvalidRequest:
        """The error for several bad fields; its message tells the first ten."""
        listed = "; ".join(f"{violation.field}: {violation.message}" for violation in violations[:_LISTED])
        more = f"; and {len(violations) - _LISTED} more" if len(violations) > _LISTED else ""
        return cls(listed + more, violations=violations)


class InvalidAdapter(InvalidRequest):
    """An adapter file that is malformed, unsafe or does not fit the base model."""

    default_reason = "INVALID_ADAPTER"


class NotFound(ExpungeError):
    """The named object does not exist."""

    default_reason = "NOT_FOUND"


class AlreadyExists(ExpungeError):
    """An object of that name exists with other contents."""

    default_reason = "ALREADY_EXISTS"


class FailedPrecondition(ExpungeError):
    """The system is not in the state the call needs: not staged, gates not met, below the floor."""

    default_reason = "FAILED_PRECONDITION"


class BelowFloor(FailedPrecondition):
    """A version does not meet every erasure on the floor."""

    default_reason = "BELOW_ERASURE_FLOOR"


class VersionNotStaged(FailedPrecondition):
    """The version is not resident on the replica that was asked; it never answers with another."""

    default_reason = "VERSION_NOT_STAGED"


class RefusedByPolicy(FailedPrecondition):
    """The neutral refusal a client sees; it never says that an erasure was asked for."""

    default_reason = "REFUSED_BY_POLICY"


class StaleGeneration(ExpungeError):
    """The rollout has moved on since the caller read it."""

    default_reason = "STALE_GENERATION"


class Overloaded(ExpungeError):
    """A queue or quota is full; `retry_after_s` says when to try again."""

    default_reason = "OVERLOADED"


class Unavailable(ExpungeError):
    """Draining, replica lost, or the registry's lease has run out."""

    default_reason = "UNAVAILABLE"


class DeadlineExceeded(ExpungeError):
    """The caller's deadline passed before the work was done."""

    default_reason = "DEADLINE_EXCEEDED"


class Cancelled(ExpungeError):
    """The work was cancelled on request."""

    default_reason = "CANCELLED"


class Unauthenticated(ExpungeError):
    """No token, or one that is not known."""

    default_reason = "UNAUTHENTICATED"


class PermissionDenied(ExpungeError):
    """The caller is known, but the method is not allowed for its role."""

    default_reason = "PERMISSION_DENIED"


class DataLoss(ExpungeError):
    """Bytes do not match their digest."""

    default_reason = "DATA_LOSS"


class ModelError(ExpungeError):
    """A base model is missing, partial, corrupt, or no causal language model."""

    default_reason = "MODEL_UNUSABLE"


class ConfigError(ExpungeError):
    """Settings that can't work; every problem is reported together in `violations`."""

    default_reason = "BAD_SETTINGS"


class Unimplemented(ExpungeError):
    """The method is part of the contract but not built yet."""

    default_reason = "UNIMPLEMENTED"
