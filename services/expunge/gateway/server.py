"""One grpc.aio server: options, services, health and reflection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from expunge.errors import ConfigError
from expunge.gateway.chain import CallChain
from expunge.gateway.health import Health

MAX_INFERENCE_BYTES = 2**20
# What is too large for validation must still reach it, to be told which field.
MAX_OPERATOR_BYTES = 16 * 2**20
# Calls under way at once, health watches and refused ones included; gRPC answers those above with
# RESOURCE_EXHAUSTED. An idle connection is no call. Engines' own bounded queues refuse long before the first
# is reached; the second leaves room for every watch that `EventStream` allows.
MAX_INFERENCE_CALLS = 4096
MAX_OPERATOR_CALLS = 512
MAX_STREAMS_PER_CONNECTION = 1024  # a client holds back what is above, and can't take all calls by itself
_MAX_CONNECTION_AGE_MS = 30 * 60 * 1000  # clients then reconnect, perhaps to another gateway
_MAX_CONNECTION_AGE_GRACE_MS = 10 * 60 * 1000  # above the longest generation


@dataclass(frozen=True)
class Service:
    """A servicer and how it joins a server."""

    name: str
    servicer: Any
    add: Callable[[Any, grpc.aio.Server], None]


class RpcServer:
    """A listening server. Keep the object: gRPC closes the port of a server that nobody refers to."""

    def __init__(
        self,
        services: Sequence[Service],
        chain: CallChain,
        *,
        max_message_bytes: int,
        max_calls: int,
        with_reflection: bool,
    ) -> None:
        names = [service.name for service in services]
        self.health = Health(names)
        self._chain = chain
        self._server = grpc.aio.server(
            interceptors=[chain], options=_options(max_message_bytes), maximum_concurrent_rpcs=max_calls
        )
        for service in services:
            service.add(service.servicer, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self.health.servicer, self._server)
        if with_reflection:
            shown = (*names, "grpc.health.v1.Health", reflection.SERVICE_NAME)
            reflection.enable_server_reflection(shown, self._server)

    async def listen(self, setting: str, host: str, port: int) -> int:
        """Start to serve; returns the port, which port 0 leaves to the system.

        Raises:
            ConfigError: it can't listen there.
        """
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            bound = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise ConfigError(
                f"can't listen on {address}: set EXPUNGE_{setting.upper()} to a free port (0: any)",
                reason="PORT_TAKEN",
            ) from error
        await self._server.start()
        return bound

    async def stop(self, grace_s: float) -> None:
        """Take no new calls; give those under way `grace_s` to end.

        Only gRPC knows what it has taken in and not handed to a handler yet: so it says when all have ended.
        """
        self._chain.leave()
        await self._server.stop(grace_s)


def _options(max_message_bytes: int) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 1),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", MAX_OPERATOR_BYTES),
        ("grpc.max_concurrent_streams", MAX_STREAMS_PER_CONNECTION),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.max_connection_age_ms", _MAX_CONNECTION_AGE_MS),
        ("grpc.max_connection_age_grace_ms", _MAX_CONNECTION_AGE_GRACE_MS),
    ]
