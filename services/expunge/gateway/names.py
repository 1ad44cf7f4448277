"""Names and short texts that callers choose: safe in paths, logs and URLs."""

from __future__ import annotations

import re

from expunge.errors import InvalidRequest

MAX_REASON_CHARS = 500
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


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
