"""The engine as the gateway sees it, over Serve."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any, cast

from ray.exceptions import RayActorError, RayError, RayTaskError, TaskCancelledError
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    ReplicaUnavailableError,
    RequestCancelledError,
)
from ray.serve.handle import DeploymentHandle

from expunge.errors import Cancelled, ExpungeError, Overloaded, Unavailable, VersionNotStaged
from expunge.inference.request import GenerationRequest, ScoreRequest, ScoreResult, TokenBatch
from expunge.observability.logging import get_logger

RETRY_AFTER_S = 1.0
_REPLICAS_ASKED = 3  # for a version that one replica has not staged

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

        A replica that does not hold the version waits for it a little and refuses before its first token;
        another may hold it, so Serve is asked again. It can't be told which replica to leave out.

        Raises:
            Unavailable: the replica died, none is there, or none that was asked holds the version.
            Overloaded: no replica takes more requests.
            ExpungeError: what else the engine raised.
        """
        begun = False
        for _ in range(_REPLICAS_ASKED):
            try:
                async for batch in self._generate(request):
                    begun = True
                    yield batch
                return
            except VersionNotStaged:
                if begun:  # another answer must not be joined to this one
                    break
        raise _not_staged(request.version)

    async def _generate(self, request: GenerationRequest) -> AsyncIterator[TokenBatch]:
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
        for _ in range(_REPLICAS_ASKED):
            result = await self._score(request)
            if isinstance(result, VersionNotStaged):
                continue
            if isinstance(result, ExpungeError):
                raise result
            return result
        raise _not_staged(request.version)

    async def _score(self, request: ScoreRequest) -> ScoreResult | ExpungeError:
        response = self._handle.score.remote(request)
        try:
            return cast(ScoreResult | ExpungeError, await response)
        except Exception as error:
            raise translate(error) from error
        finally:
            response.cancel()


def _not_staged(version: str) -> Unavailable:
    """The version is what a rollout names (or named a moment ago), so another replica or time can answer."""
    return Unavailable(
        f"version {version} is not staged on the replicas that were asked; retry",
        reason=VersionNotStaged.default_reason,
        metadata={"version": version},
        retry_after_s=RETRY_AFTER_S,
    )


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
