"""The engine as a Serve deployment.

Model libraries are imported where a replica starts: launchers and gateways, which need this module to name
the deployment, start seconds sooner without them.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from typing import Any, cast

from ray import serve
from ray.serve.config import AutoscalingConfig, RequestRouterConfig

from expunge.config import Settings, thread_environment
from expunge.errors import ExpungeError, VersionNotStaged
from expunge.inference.backend import open_backend
from expunge.inference.placement import REPLICA, Placement
from expunge.inference.request import GenerationRequest, ScoreRequest, ScoreResult, TokenBatch
from expunge.inference.request_router import STATS_PERIOD_S, EngineRouter, routing_stats
from expunge.inference.stats import EngineStats
from expunge.inference.version_follower import VersionFollower
from expunge.observability.engine_metrics import EngineMetrics, Sample
from expunge.observability.logging import configure_logging
from expunge.registry.blobs import BlobStore
from expunge.registry.client import RegistryClient

NAME = "Engine"
_CLEAN_UP_S = 10.0
HEALTH_PERIOD_S = 2.0
WAIT_LOOP_S = 0.1  # how often a leaving replica looks whether its last request has ended
# requests that Serve lets through: the engine's own bounded queue must be the one that refuses
SPARE_REQUESTS = 1024


class EngineDeployment:
    """One replica: the engine, and the loop that keeps its versions what the registry wants.

    Serve routes to it only once `__init__` is through, that is with every wanted version staged. Domain
    errors are handed over as values, so that they arrive unchanged.
    """

    async def __init__(self, settings: Settings) -> None:  # type: ignore[misc]  # Serve awaits it
        configure_logging("engine")
        self._settings = settings
        self._member = serve.get_replica_context().replica_id.unique_id
        self._metrics = EngineMetrics(with_ray=True)
        self._engine = await open_backend(settings, self._metrics)
        self._engine.start()
        self._follower = VersionFollower(
            registry=RegistryClient(lease_s=settings.lease_s),
            host=self._engine,
            blobs=BlobStore(settings.resolved_blob_url),
            member=self._member,
            folder=settings.cache / "staging",
            observer=self._metrics,
            samples=self._samples,
        )
        self._showing = asyncio.create_task(self._show_stats())
        self._following = asyncio.create_task(self._follower.run())
        ready = asyncio.create_task(self._follower.ready())
        await asyncio.wait((ready, self._following), return_when=asyncio.FIRST_COMPLETED)
        if self._following.done():
            self._following.result()

    async def generate(
        self, request: GenerationRequest, placement: Placement
    ) -> AsyncIterator[TokenBatch | ExpungeError]:
        """See `Backend.generate`; an error is the last item. `placement` is for the router."""
        await self._follower.await_staged(request.version)
        try:
            async for batch in self._engine.generate(request, self._settings.stream_batch_s):
                yield batch
        except ExpungeError as error:
            yield _signed(error, self._member)

    async def score(self, request: ScoreRequest, placement: Placement) -> ScoreResult | ExpungeError:
        """See `Backend.score`. `placement` is for the router."""
        await self._follower.await_staged(request.version)
        try:
            return await self._engine.score(request)
        except ExpungeError as error:
            return _signed(error, self._member)

    async def record_routing_stats(self) -> dict[str, Any]:
        """What the routers need to know; Serve asks for it every `STATS_PERIOD_S`."""
        return routing_stats(self._engine.staged())

    async def stats(self) -> tuple[str, EngineStats]:
        """This replica's name as a member, and what it runs and has done."""
        return self._member, self._engine.stats()

    async def _show_stats(self) -> None:
        while True:
            self._take_stats()
            await asyncio.sleep(STATS_PERIOD_S)

    def _take_stats(self) -> None:
        self._metrics.show(dataclasses.asdict(self._engine.stats()), self._engine.staged())

    def _samples(self) -> tuple[Sample, ...]:
        self._take_stats()
        return self._metrics.samples()

    async def check_health(self) -> None:
        """Raise when this replica should be replaced.

        That is when its engine or its watch loop has ended, or when a version that an alias points at has
        been missing here for longer than staging may take.
        """
        if not self._engine.is_alive or self._following.done() or self._showing.done():
            raise RuntimeError("the engine's thread, its watch loop or its metrics have ended")
        missing_s = self._follower.longest_missing_s()
        if missing_s > self._settings.staging_timeout_s:
            raise RuntimeError(f"an active version has not been staged for {missing_s:.0f} s")

    async def __del__(self) -> None:  # Serve awaits it once the last request has ended
        for task in (self._following, self._showing):
            task.cancel()
        await asyncio.gather(self._following, self._showing, return_exceptions=True)
        await self._follower.leave()
        await asyncio.to_thread(self._engine.close)


def _signed(error: ExpungeError, member: str) -> ExpungeError:
    """A refusal that names the replica, so that another can be asked; any other error as it is."""
    if isinstance(error, VersionNotStaged):
        error.metadata[REPLICA] = member
    return error


def stop_timeout_s(settings: Settings) -> float:
    """How long a replica may take to leave before Serve kills it.

    Serve stops all of an application's replicas at once, and an engine only after its last call: so engine
    and gateway have the same time, for the gateway's notice, the grace and the clean-up after it.
    """
    return settings.drain_notice_s + settings.drain_grace_s + _CLEAN_UP_S


def build_engine(settings: Settings) -> serve.Application:
    """The deployment "Engine", bound to `settings`, to be handed to the gateway's."""
    threads = thread_environment(settings.resolved_engine_threads)
    deployment = serve.deployment(
        name=NAME,
        **_replica_count(settings),
        max_ongoing_requests=settings.max_batch_rows + settings.max_queue + SPARE_REQUESTS,
        graceful_shutdown_timeout_s=stop_timeout_s(settings),
        graceful_shutdown_wait_loop_s=WAIT_LOOP_S,
        health_check_period_s=HEALTH_PERIOD_S,
        request_router_config=RequestRouterConfig(
            request_router_class=EngineRouter,
            request_router_kwargs={"slack": settings.engine_prefix_slack},
            request_routing_stats_period_s=STATS_PERIOD_S,
        ),
        ray_actor_options={
            "num_cpus": settings.engine_cpus,
            "num_gpus": settings.engine_gpus,
            "runtime_env": {"env_vars": threads},
        },
    )
    return cast(serve.Application, deployment(EngineDeployment).bind(settings))


def _replica_count(settings: Settings) -> dict[str, Any]:
    """How many replicas: a number, or bounds between which their ongoing requests decide.

    Serve does not stop a replica before its last request has ended (`stop_timeout_s`).
    """
    if not settings.has_autoscaling:
        return {"num_replicas": settings.engine_replicas}
    window_s = settings.engine_scaling_window_s
    return {
        "autoscaling_config": AutoscalingConfig(
            min_replicas=settings.engine_replicas,
            max_replicas=settings.resolved_engine_replicas_max,
            target_ongoing_requests=settings.engine_target_ongoing,
            upscale_delay_s=settings.engine_upscale_delay_s,
            downscale_delay_s=settings.engine_downscale_delay_s,
            look_back_period_s=window_s,
            metrics_interval_s=window_s / 5,  # Serve's default would look later than the window ends
        )
    }
