"""The engine as the gateway sees it, over Serve."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
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
from expunge.inference.placement import REPLICA, Placement, Refusals
from expunge.inference.request import GenerationRequest, ScoreRequest, ScoreResult, TokenBatch
from expunge.inference.request_router import RETRY_AFTER_S, not_staged
from expunge.observability.logging import get_logger

_REPLICAS_ASKED = 3  # for a version that the first has not staged; each takes up to STAGING_WAIT_S

_log = get_logger()


class EngineClient:
    """Asks the engine replicas; `EngineRouter` chooses which.

    Args:
        handle: the deployment "Engine".
        unroutable: names of the replicas that must get no requests, as of now.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        handle: DeploymentHandle,
        unroutable: Callable[[], Iterable[str]] = tuple,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._handle = handle
        self._unroutable = unroutable
        self._refusals = Refusals(clock)

    async def generate(self, request: GenerationRequest) -> AsyncIterator[TokenBatch]:
        """See `Engine.generate`; whoever stops iterating stops the generation.

        A replica that does not hold the version waits for it a little and refuses before its first token;
        then another is asked.

        Raises:
            Unavailable: the replica died, none is there, or none that was asked holds the version.
            Overloaded: no replica takes more requests.
            ExpungeError: what else the engine raised.
        """
        refused: set[str] = set()
        for _ in range(_REPLICAS_ASKED):
            begun = False
            try:
                async for batch in self._generate(request, self._placement(request.version, refused)):
                    begun = True
                    yield batch
                return
            except VersionNotStaged as error:
                if begun:  # another answer must not be joined to this one
                    break
                self._note_refusal(error, request.version, refused)
        raise not_staged(request.version)

    async def _generate(self, request: GenerationRequest, placement: Placement) -> AsyncIterator[TokenBatch]:
        response = self._handle.options(stream=True).generate.remote(request, placement)
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
        refused: set[str] = set()
        for _ in range(_REPLICAS_ASKED):
            result = await self._score(request, self._placement(request.version, refused))
            if isinstance(result, VersionNotStaged):
                self._note_refusal(result, request.version, refused)
                continue
            if isinstance(result, ExpungeError):
                raise result
            return result
        raise not_staged(request.version)

    async def _score(self, request: ScoreRequest, placement: Placement) -> ScoreResult | ExpungeError:
        response = self._handle.score.remote(request, placement)
        try:
            return cast(ScoreResult | ExpungeError, await response)
        except ExpungeError:
            raise
        except Exception as error:
            raise translate(error) from error
        finally:
            response.cancel()

    def _placement(self, version: str, refused: set[str]) -> Placement:
        return Placement(frozenset((*self._unroutable(), *refused)), self._refusals.of(version))

    def _note_refusal(self, error: VersionNotStaged, version: str, refused: set[str]) -> None:
        replica = error.metadata[REPLICA]
        refused.add(replica)
        self._refusals.note(replica, version)


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
