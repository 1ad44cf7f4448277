"""The engine as a Serve deployment.

Model libraries are imported where a replica starts: launchers and gateways, which need this module to name
the deployment, start seconds sooner without them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, TypeVar, cast

from ray import serve

from expunge.config import Settings, thread_environment
from expunge.errors import ExpungeError
from expunge.inference.limits import EngineLimits
from expunge.inference.request import GenerationRequest, ScoreRequest, ScoreResult, TokenBatch
from expunge.inference.stats import EngineStats
from expunge.inference.version_follower import VersionFollower
from expunge.observability.logging import configure_logging
from expunge.registry.blobs import BlobStore
from expunge.registry.client import RegistryClient

if TYPE_CHECKING:
    from expunge.inference.engine import Engine

NAME = "Engine"
CPUS = 0.5  # for placing; the threads are set by `engine_threads`
# What calls under way get to end when a process leaves; above the longest generation. Serve stops all of an
# application's replicas at once, and an engine only after its last call: so engine and gateway have the same
# grace, with time for the gateway's notice before it and the clean-up after it.
GRACE_S = 60.0
STOP_TIMEOUT_S = GRACE_S + 10.0  # then Serve kills the replica
HEALTH_PERIOD_S = 2.0
WAIT_LOOP_S = 0.1  # how often a leaving replica looks whether its last request has ended
# requests that Serve lets through: the engine's own bounded queue must be the one that refuses
SPARE_REQUESTS = 1024

_Result = TypeVar("_Result")


class EngineDeployment:
    """One replica: the engine, and the loop that keeps its versions what the registry wants.

    Serve routes to it only once `__init__` is through, that is with every wanted version staged. Domain
    errors are handed over as values, so that they arrive unchanged.
    """

    async def __init__(self, settings: Settings) -> None:  # type: ignore[misc]  # Serve awaits it
        configure_logging("engine")
        self._settings = settings
        self._engine = await _loaded_engine(settings)
        self._engine.start()
        self._follower = VersionFollower(
            registry=RegistryClient(lease_s=settings.lease_s),
            host=self._engine,
            blobs=BlobStore(settings.resolved_blob_url),
            member=serve.get_replica_context().replica_id.unique_id,
            folder=settings.cache / "staging",
        )
        self._following = asyncio.create_task(self._follower.run())
        ready = asyncio.create_task(self._follower.ready())
        await asyncio.wait((ready, self._following), return_when=asyncio.FIRST_COMPLETED)
        if self._following.done():
            self._following.result()

    async def generate(self, request: GenerationRequest) -> AsyncIterator[TokenBatch | ExpungeError]:
        """See `Engine.generate`; an error is the last item."""
        await self._follower.await_staged(request.version)
        try:
            async for batch in self._engine.generate(request, self._settings.stream_batch_s):
                yield batch
        except ExpungeError as error:
            yield error

    async def score(self, request: ScoreRequest) -> ScoreResult | ExpungeError:
        """See `Engine.score`."""
        await self._follower.await_staged(request.version)
        try:
            return await self._engine.score(request)
        except ExpungeError as error:
            return error

    async def stats(self) -> EngineStats:
        """What this replica runs and has done."""
        return self._engine.stats()

    async def check_health(self) -> None:
        """Raise when this replica should be replaced.

        That is when its engine or its watch loop has ended, or when a version that an alias points at has
        been missing here for longer than staging may take.
        """
        if not self._engine.is_alive or self._following.done():
            raise RuntimeError("the engine's thread or its watch loop has ended")
        missing_s = self._follower.longest_missing_s()
        if missing_s > self._settings.staging_timeout_s:
            raise RuntimeError(f"an active version has not been staged for {missing_s:.0f} s")

    async def __del__(self) -> None:  # Serve awaits it once the last request has ended
        self._following.cancel()
        await asyncio.gather(self._following, return_exceptions=True)
        await self._follower.leave()
        await asyncio.to_thread(self._engine.close)


async def _loaded_engine(settings: Settings) -> Engine:
    from expunge.inference.elastic_threads import ElasticThreads
    from expunge.inference.engine import Engine
    from expunge.models.load import load_model

    loaded = await _in_passing_thread(
        partial(load_model, settings.model, cache=settings.cache, dtype=settings.dtype)
    )
    threads = ElasticThreads(settings.resolved_engine_threads)
    folder = settings.cache / "kernels" if settings.native_kernels else None
    return await _in_passing_thread(
        partial(Engine, loaded, EngineLimits.of(settings), threads=threads, kernels_folder=folder)
    )


async def _in_passing_thread(function: Callable[[], _Result]) -> _Result:
    """Run `function` in a thread that ends with it, and so do the threads torch gave it.

    They would count against the cores for as long as theirs lives, and make the engine's own spin less.
    """
    with ThreadPoolExecutor(1) as pool:
        return await asyncio.get_running_loop().run_in_executor(pool, function)


def build_engine(settings: Settings) -> serve.Application:
    """The deployment "Engine", bound to `settings`, to be handed to the gateway's."""
    threads = thread_environment(settings.resolved_engine_threads)
    deployment = serve.deployment(
        name=NAME,
        num_replicas=settings.engine_replicas,
        max_ongoing_requests=settings.max_batch_rows + settings.max_queue + SPARE_REQUESTS,
        graceful_shutdown_timeout_s=STOP_TIMEOUT_S,
        graceful_shutdown_wait_loop_s=WAIT_LOOP_S,
        health_check_period_s=HEALTH_PERIOD_S,
        ray_actor_options={"num_cpus": CPUS, "runtime_env": {"env_vars": threads}},
    )
    return cast(serve.Application, deployment(EngineDeployment).bind(settings))
