"""JSON logs, one object a line, with every field declared here and nothing of what is to be forgotten.

A field that is not declared is left out and only its name is logged, so that a careless call can't leak
text. Of an exception its type, its reason and its place are logged; its message only where it is a domain
error, whose messages never hold prompt or fact text.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Mapping, MutableMapping
from types import MappingProxyType
from typing import Any, TextIO

import structlog

from expunge.errors import ExpungeError

LOG_FIELDS: Mapping[str, str] = MappingProxyType(
    {
        "alias": "model name that clients call",
        "attempt": "which try of a job this is, from 1",
        "audit_id": "id of an audit",
        "count": "how many of what the event names",
        "detail": "why something waits or failed, free of prompt and fact text",
        "erasure_id": "id of an erasure",
        "error": "type of an exception",
        "generation": "generation of an alias's rollout",
        "incident": "random id that an internal error names to its caller",
        "job_id": "id of a job",
        "job_kind": "kind of a job",
        "member": "gateway or engine replica",
        "message": "message of a domain error",
        "method": "full name of an RPC",
        "port": "port that is listened on",
        "principal": "who called",
        "process": "engine, gateway, registry, controller or worker",
        "reason": "stable word for a domain error",
        "request_id": "id of a request",
        "revision": "revision of the registry's snapshot",
        "round": "training round of an erasure, from 1",
        "seconds": "how long it took",
        "state": "state of an erasure or a job",
        "status": "gRPC status code",
        "version": "id of an adapter version",
        "where": "file, line and function of an exception, innermost last",
        "worker": "name of a worker",
    }
)
_BUILT_IN = frozenset(("event", "level", "timestamp", "exc_info"))


def configure_logging(process: str, *, level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """Log JSON lines to `stream` (standard error by default), each naming `process`.

    Call once in every process, before its first log line.
    """
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _ProcessName(process),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _describe_exception,
            _keep_declared,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=stream or sys.stderr),
        cache_logger_on_first_use=False,
    )


def get_logger(**fields: object) -> structlog.typing.FilteringBoundLogger:
    """A logger whose lines carry `fields`, each of them one of LOG_FIELDS."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(**fields)
    return logger


class _ProcessName:
    """Names the process in every line, whatever thread writes it."""

    def __init__(self, process: str) -> None:
        self._process = process

    def __call__(
        self, _logger: object, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        event.setdefault("process", self._process)
        return event


def _describe_exception(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    given = event.pop("exc_info", None)
    error = sys.exc_info()[1] if given is True else given[1] if isinstance(given, tuple) else given
    if not isinstance(error, BaseException):
        return event
    event["error"] = type(error).__name__
    if isinstance(error, ExpungeError):
        event["reason"], event["message"] = error.reason, error.message
    frames = traceback.extract_tb(error.__traceback__)
    event["where"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    return event


def _keep_declared(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    undeclared = sorted(key for key in event if key not in LOG_FIELDS and key not in _BUILT_IN)
    for key in undeclared:
        del event[key]
    if undeclared:
        event["undeclared"] = undeclared
    return event
