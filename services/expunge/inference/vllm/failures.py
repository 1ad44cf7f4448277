"""vLLM's errors as domain errors."""

from __future__ import annotations

import uuid

from vllm.exceptions import VLLMClientError
from vllm.v1.engine.exceptions import EngineDeadError

from expunge.errors import ExpungeError, InvalidRequest, Unavailable
from expunge.observability.logging import get_logger

_log = get_logger()


def translate(error: Exception, version: str) -> ExpungeError:
    """The domain error for what vLLM raised; anything unknown gets an id that the log explains."""
    if isinstance(error, ExpungeError):
        return error
    if isinstance(error, EngineDeadError):
        return Unavailable("the engine of this replica is lost; retry")
    if isinstance(error, VLLMClientError):
        return InvalidRequest.of(getattr(error, "parameter", None) or "request", f"{error}")
    incident = uuid.uuid4().hex
    _log.error("engine_step_failed", incident=incident, version=version, exc_info=error)
    return ExpungeError(f"the engine failed on this request; incident {incident}")
