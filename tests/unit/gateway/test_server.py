"""Limits of one gRPC server."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from expunge.gateway.chain import CallChain
from expunge.gateway.server import RpcServer


async def test_a_call_above_the_limit_is_told_so_and_idle_connections_do_not_count() -> None:
    server = RpcServer([], CallChain(()), max_message_bytes=1024, max_calls=2, with_reflection=False)
    address = f"127.0.0.1:{await server.listen('inference_port', '127.0.0.1', 0)}"
    channels = [grpc.aio.insecure_channel(address) for _ in range(10)]
    try:
        await asyncio.gather(*(channel.channel_ready() for channel in channels))
        request = health_pb2.HealthCheckRequest(service="")
        first, second = (HealthStub(channel).Watch(request) for channel in channels[:2])
        for watch in (first, second):
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await HealthStub(channels[2]).Check(request)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    finally:
        for channel in channels:
            await channel.close()
        await server.stop(0.0)
