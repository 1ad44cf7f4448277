"""The engine as the gateway sees it, over Serve."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

from ray.exceptions import RayActorError, RayError, RayTaskError, TaskCancelledError
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    ReplicaUnavailableError,
    RequestCancelledError,
)
from ray.serve.handle import DeploymentHandle

from expunge.errors import Cancelled, ExpungeError, Overloaded, Unavailable
from expunge.inference.request import GenerationRequest, ScoreRequest, ScoreResult, TokenBatch
from expunge.observability.logging import get_logger

RETRY_AFTER_S = 1.0

_log = get_logger()


class EngineClient:
    """Asks the engine replicas.

    Args:
        handle: the deployment "Engine".
    """

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def generate(self, request: GenerationRequest) -> AsyncIterator[TokenBatch]:
        """See `Engine.generate`; whoever stops iterating stops the generation.

        Raises:
            Unavailable: the replica died or none is there.
            Overloaded: no replica takes more requests.
            ExpungeError: what the engine raised.
        """
        response = self._handle.options(stream=True).generate.remote(request)
        try:
            async for item in response:
                if isinstance(item, ExpungeError):
                    raise item
                yield item
        except (asyncio.CancelledError, GeneratorExit, ExpungeError):
            raise
        except Exception as error:
            raise translate(error) from error
        finally:
            response.cancel()  # without this the replica would generate to the end

    async def score(self, request: ScoreRequest) -> ScoreResult:
        """See `Engine.score`; raises as `generate`."""
        response = self._handle.score.remote(request)
        try:
            result: ScoreResult | ExpungeError = await response
        except Exception as error:
            raise translate(error) from error
        finally:
            response.cancel()
        if isinstance(result, ExpungeError):
            raise result
        return result


def translate(error: BaseException) -> ExpungeError:
    """The domain error for what Ray or Serve raised; anything unknown gets an id that the log explains."""
    if isinstance(error, RayTaskError):
        cause: Any = error.cause
        if isinstance(cause, ExpungeError):
            return cause
        if isinstance(cause, RayError):
            return translate(cause)
    if isinstance(error, BackPressureError):
        return Overloaded("every engine replica is full; retry later", retry_after_s=RETRY_AFTER_S)
    if isinstance(error, (RequestCancelledError, TaskCancelledError, asyncio.CancelledError)):
        return Cancelled("the request was cancelled")
    if isinstance(error, (RayActorError, DeploymentUnavailableError, ReplicaUnavailableError)):
        return Unavailable("the engine replica was lost or none is ready; retry", retry_after_s=RETRY_AFTER_S)
    incident = uuid.uuid4().hex
    _log.error("engine_call_failed", incident=incident, exc_info=error)
    return ExpungeError(f"the engine failed on this request; incident {incident}")
