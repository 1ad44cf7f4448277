"""How a gateway leaves: what outlives the grace is told so; what ends within it is not disturbed."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from expunge.client import AsyncClient
from expunge.gateway.gateway import Gateway
from expunge.gateway.quotas import Quota
from expunge.gateway.tokens import TokenTable
from expunge.registry.blobs import BlobStore
from expunge.rpc.inference.v1 import inference_pb2 as pb
from gateway.conftest import VERIFICATION_KEY
from gateway.test_admission import Stage, details, staged
from gateway.trailers import Trailers

CLIENTS, CALLS = 8, 20


async def test_a_stream_that_outlives_the_grace_ends_in_unavailable(tmp_path: Path) -> None:
    async with staged(tmp_path, {"alice": {}}) as stage:
        stream = stage.stream("alice")
        await stage.engine.holds(1)
        stage.engine.rows[0].give(1)
        assert isinstance(await stream.read(), pb.GenerateStreamResponse)
        await stage.gateway.drain(notice_s=0.0, grace_s=0.05)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.read()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert details(Trailers(caught.value))["ErrorInfo"].reason == "DRAINING"
        await stage.engine.holds(0)


async def test_a_health_watch_does_not_use_up_the_grace(tmp_path: Path) -> None:
    async with (
        staged(tmp_path, {"alice": {}}) as stage,
        grpc.aio.insecure_channel(stage.gateway.addresses.inference) as channel,
    ):
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        first = await watch.read()
        assert first.status == health_pb2.HealthCheckResponse.SERVING
        async with asyncio.timeout(60):
            await stage.gateway.drain(notice_s=0.0, grace_s=3600.0)
        told = await watch.read()
        assert told.status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await watch.read()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_gateways_that_leave_one_after_the_other_lose_no_unary_call(tmp_path: Path) -> None:
    port = free_port()
    async with staged(tmp_path, {"alice": {}}, inference_port=port) as stage:
        stage.engine.answers_at_once = True
        old, ends = stage.gateway, []
        for number in range(1, 4):
            asking = [asyncio.create_task(ask_on(f"127.0.0.1:{port}")) for _ in range(CLIENTS)]
            new = successor(stage, tmp_path, f"gateway-{number}")
            await new.start()
            await old.drain(notice_s=0.0, grace_s=60.0)
            ends += [end for found in await asyncio.gather(*asking) for end in found]
            old = new
        assert len(ends) == 3 * CLIENTS * CALLS
        assert set(ends) == {"length"}
        await old.drain(notice_s=0.0, grace_s=60.0)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def successor(stage: Stage, folder: Path, member: str) -> Gateway:
    """One more gateway of the same service, on the same port."""
    settings = stage.gateway.settings
    return Gateway(
        settings,
        member,
        registry=stage.registry,
        engine=stage.engine,
        blobs=BlobStore(settings.resolved_blob_url),
        tokens=TokenTable.read(folder / "tokens.yaml", Quota.of(settings)),
        verification_key=VERIFICATION_KEY,
        clock=stage.clock,
    )


async def ask_on(address: str) -> list[str]:
    """Calls one after the other, each over a connection of its own; what came of them."""
    found = []
    for _ in range(CALLS):
        async with AsyncClient(address, "token-of-alice") as client:
            found.append((await client.generate(prompt="a", max_tokens=1)).finish_reason.value)
    return found
