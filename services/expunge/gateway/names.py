"""Names and short texts that callers choose: safe in paths, logs and URLs."""

from __future__ import annotations

import re

from expunge.errors import InvalidRequest

MAX_REASON_CHARS = 500
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_OWN_JOB = re.compile(
    r"er-[0-9a-f]{16}(-.*)?|audit-[0-9a-f]{20}"
)  # ids that the service gives to jobs itself
_VERSION_ID = re.compile(r"[0-9a-f]{64}")


def check_name(field: str, name: str) -> None:
    """Refuse a name that could leave its folder or break a log line.

    Raises:
        InvalidRequest: naming `field`.
    """
    if not _NAME.fullmatch(name) or ".." in name:
        raise InvalidRequest.of(
            field,
            "must be 1 to 128 letters, digits, '.', '_' or '-', not begin with a mark, and hold no '..'",
        )


def check_job_id(field: str, job_id: str) -> None:
    """As `check_name`, for the id of a job: those of erasures and of the floor's audits can't be taken.

    Raises:
        InvalidRequest: naming `field`.
    """
    check_name(field, job_id)
    if _OWN_JOB.fullmatch(job_id):
        raise InvalidRequest.of(field, "has the form of the service's own job ids; send a UUID, for instance")


def check_version_name(field: str, name: str) -> None:
    """As `check_name`, for the name of a version, which must not pass for another version's id.

    Raises:
        InvalidRequest: naming `field`.
    """
    check_name(field, name)
    if _VERSION_ID.fullmatch(name):
        raise InvalidRequest.of(field, "has the form of a version's id; choose another name")


def check_alias(alias: str) -> None:
    """As `check_name`, for an alias."""
    check_name("alias", alias)


def check_reason(reason: str, *, required: bool) -> None:
    """Refuse a missing or overlong reason.

    Raises:
        InvalidRequest: naming the field `reason`.
    """
    if required and not reason.strip():
        raise InvalidRequest.of("reason", "is empty; say why, it is kept in the history")
    if len(reason) > MAX_REASON_CHARS:
        raise InvalidRequest.of(
            "reason", f"has {len(reason)} characters; at most {MAX_REASON_CHARS} are allowed"
        )
