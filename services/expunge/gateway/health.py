"""grpc.health.v1: "" tells that the process lives, a full service name that it is ready."""

from __future__ import annotations

from collections.abc import Iterable

from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health_aio  # type: ignore[attr-defined]


class Health:
    """The health of one gRPC server and of its services."""

    def __init__(self, services: Iterable[str]) -> None:
        self._services = tuple(services)
        self.servicer = health_aio.HealthServicer()

    async def show(self, is_ready: bool) -> None:
        """Set every service's readiness; liveness stays."""
        status = (
            health_pb2.HealthCheckResponse.SERVING if is_ready else health_pb2.HealthCheckResponse.NOT_SERVING
        )
        for service in self._services:
            await self.servicer.set(service, status)

    async def drain(self) -> None:
        """NOT_SERVING for everything, for good."""
        await self.servicer.enter_graceful_shutdown()
