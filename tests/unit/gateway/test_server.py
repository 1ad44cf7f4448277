"""Limits of one gRPC server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from expunge.gateway.chain import CallChain
from expunge.gateway.server import RpcServer, Service
from expunge.rpc.inference.v1 import inference_pb2 as pb
from expunge.rpc.inference.v1 import inference_pb2_grpc as pb_grpc
from raw_http2 import ClosedWindow

STREAM = "/expunge.inference.v1.InferenceService/GenerateStream"
NEVER_READ_S = 0.1


class Talkative(pb_grpc.InferenceServiceServicer):
    """Answers without end, or slowly."""

    def __init__(self, pause_s: float = 0.0, responses: int | None = None) -> None:
        self._pause_s = pause_s
        self._responses = responses
        self.ended = asyncio.Event()

    async def GenerateStream(
        self, request: pb.GenerateStreamRequest, context: grpc.aio.ServicerContext[object, object]
    ) -> AsyncIterator[pb.GenerateStreamResponse]:
        told = 0
        try:
            while told != self._responses:
                await asyncio.sleep(self._pause_s)
                yield pb.GenerateStreamResponse(text="word " * 20)
                told += 1
        finally:
            self.ended.set()

    async def served(self) -> tuple[RpcServer, str]:
        """A listening server that gives up clients that never read, and its address."""
        service = Service("inference", self, pb_grpc.add_InferenceServiceServicer_to_server)
        server = RpcServer(
            [service],
            CallChain((), never_read_s=NEVER_READ_S),
            max_message_bytes=1024,
            max_calls=2,
            with_reflection=False,
        )
        return server, f"127.0.0.1:{await server.listen('inference_port', '127.0.0.1', 0)}"


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


async def test_a_stream_whose_client_never_reads_ends_without_a_deadline() -> None:
    endless = Talkative()
    server, address = await endless.served()
    connection = await asyncio.to_thread(ClosedWindow, address)
    try:
        with connection:
            connection.ask(STREAM, b"", {})
            await asyncio.wait_for(endless.ended.wait(), timeout=60)
    finally:
        await server.stop(0.0)


async def test_a_stream_that_is_slow_by_itself_goes_on() -> None:
    slow = Talkative(pause_s=3 * NEVER_READ_S, responses=2)
    server, address = await slow.served()
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            stream = pb_grpc.InferenceServiceStub(channel).GenerateStream(pb.GenerateStreamRequest())
            assert len([response async for response in stream]) == 2
    finally:
        await server.stop(0.0)
