"""The gateway as a Serve deployment. No request comes through Serve: it places and restarts the process."""

from __future__ import annotations

from typing import cast

import ray
from ray import serve
from ray.serve.handle import DeploymentHandle

from expunge.config import Settings
from expunge.erasures.credential import verification_key
from expunge.gateway.gateway import Gateway
from expunge.gateway.quotas import Quota
from expunge.gateway.tokens import TokenTable
from expunge.inference.client import EngineClient
from expunge.inference.deployment import stop_timeout_s
from expunge.observability.logging import configure_logging
from expunge.registry.blobs import BlobStore
from expunge.registry.client import RegistryClient

NAME = "Gateway"
CPUS = 0.1  # for placing; a gateway mostly waits
HEALTH_PERIOD_S = 2.0


class GatewayDeployment:
    """One replica: a gateway from `__init__` to `__del__`, both of which Serve awaits."""

    async def __init__(self, settings: Settings, engine: DeploymentHandle) -> None:  # type: ignore[misc]
        configure_logging("gateway")
        self._settings = settings
        self._gateway = Gateway(
            settings,
            serve.get_replica_context().replica_id.unique_id,
            registry=RegistryClient(lease_s=settings.lease_s),
            engine=EngineClient(engine, lambda: self._gateway.unroutable),
            blobs=BlobStore(settings.resolved_blob_url),
            tokens=TokenTable.read(settings.resolved_tokens_file, Quota.of(settings)),
            verification_key=verification_key(settings),
            node_address=ray.util.get_node_ip_address(),
        )
        await self._gateway.start()

    async def addresses(self) -> str:
        """Where it listens, as JSON (`Addresses`)."""
        return self._gateway.addresses.to_json()

    async def check_health(self) -> None:
        """Raise when this replica should be replaced; a lost registry alone is no reason to."""
        if not self._gateway.is_alive:
            raise RuntimeError("the gateway has stopped following the registry")

    async def __del__(self) -> None:
        await self._gateway.drain(self._settings.drain_notice_s, self._settings.drain_grace_s)


def build_gateway(settings: Settings, engine: serve.Application) -> serve.Application:
    """The gateway deployment bound to `settings` and the engine's, ready for `serve.run`."""
    deployment = serve.deployment(
        name=NAME,
        num_replicas=settings.gateways,
        max_surge_percent=100,  # in a rolling restart a successor listens before its predecessor leaves
        graceful_shutdown_timeout_s=stop_timeout_s(settings),
        graceful_shutdown_wait_loop_s=0.1,
        health_check_period_s=HEALTH_PERIOD_S,
        ray_actor_options={"num_cpus": CPUS},
    )
    return cast(serve.Application, deployment(GatewayDeployment).bind(settings, engine))
