"""Health, probes, metrics, and leaving without dropping a request."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from expunge.errors import ConfigError
from expunge.observability.metrics import GatewayMetrics, MetricsServer
from expunge.rpc.inference.v1 import inference_pb2 as pb
from expunge.rpc.inference.v1.inference_pb2_grpc import InferenceServiceStub
from expunge.rpc.operator.v1 import rollout_pb2
from expunge.rpc.operator.v1.rollout_pb2_grpc import RolloutServiceStub
from gateway.conftest import bearer, serve

CLIENT, OPERATOR = bearer("client"), bearer("operator")
INFERENCE = "expunge.inference.v1.InferenceService"
SERVING = health_pb2.HealthCheckResponse.SERVING


async def fetch(address: str, path: str) -> tuple[int, str]:
    def get() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    return await asyncio.to_thread(get)


async def test_a_gateway_from_ready_to_drained(tiny_model_folder: Path, tmp_path: Path) -> None:
    async for live in serve(tiny_model_folder, tmp_path):
        addresses = live.gateway.addresses
        health = health_pb2_grpc.HealthStub(live.inference)
        states = aiter(health.Watch(health_pb2.HealthCheckRequest(service=INFERENCE)))
        async with asyncio.timeout(10):
            while (await anext(states)).status != SERVING:
                pass
        assert (await fetch(addresses.http, "/readyz"))[0] == 200
        assert (await fetch(addresses.http, "/healthz"))[0] == 200
        assert (await fetch(addresses.http, "/elsewhere"))[0] == 404

        stub = InferenceServiceStub(live.inference)
        answer = await stub.Generate(pb.GenerateRequest(prompt="The", max_tokens=4), metadata=CLIENT)
        _, page = await fetch(addresses.metrics, "/metrics")
        labels = f'{{alias="default",version="{answer.version}"}}'
        assert f"expunge_generation_tokens_total{labels} 4.0" in page
        assert f"expunge_time_to_first_token_seconds_count{labels} 1.0" in page
        assert 'expunge_rollout_generation{alias="default"} 1.0' in page
        assert "expunge_versions_staged 1.0" in page
        assert 'expunge_erasures{state="closed"} 0.0' in page
        method = f'method="/{INFERENCE}/Generate"'
        assert f'expunge_requests_total{{code="OK",{method}}} 1.0' in page

        stream = aiter(
            stub.GenerateStream(pb.GenerateStreamRequest(prompt="The old", max_tokens=200), metadata=CLIENT)
        )
        await anext(stream)
        watch = aiter(
            RolloutServiceStub(live.operator).WatchRollouts(
                rollout_pb2.WatchRolloutsRequest(), metadata=OPERATOR
            )
        )
        await anext(watch)
        drained = asyncio.create_task(live.gateway.drain(notice_s=0.3, grace_s=10.0))
        assert (await anext(states)).status != SERVING
        assert (await fetch(addresses.http, "/readyz"))[0] == 503
        chunks = [chunk async for chunk in stream]
        assert chunks[-1].finish_reason in (pb.FINISH_REASON_STOP, pb.FINISH_REASON_LENGTH)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in watch:
                pass
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        await drained
        assert [member.member for member in await live.registry.members()] == ["engine-0"]


async def test_what_outlives_the_grace_is_told_that_the_gateway_leaves(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    """On gRPC and HTTP alike; an HTTP answer that ends within the grace arrives whole."""
    async for live in serve(tiny_model_folder, tmp_path):
        long = {"prompt": "The", "max_tokens": 1900, "temperature": 0, "stream": True}
        url, headers = f"http://{live.gateway.addresses.http}", {"authorization": "Bearer token-of-client"}
        stub = InferenceServiceStub(live.inference)
        async with (
            httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as client,
            client.stream("POST", "/v1/completions", json=long) as response,
        ):
            events = response.aiter_lines()
            await anext(events)
            short = asyncio.create_task(
                client.post("/v1/completions", json={"prompt": "The old", "max_tokens": 20})
            )
            stream = aiter(
                stub.GenerateStream(pb.GenerateStreamRequest(prompt="The", max_tokens=1900), metadata=CLIENT)
            )
            await anext(stream)
            await live.gateway.drain(notice_s=0.0, grace_s=0.3)
            told = [line async for line in events if line]
            error = json.loads(told[-1].removeprefix("data: "))["error"]
            assert (error["type"], error["code"]) == ("service_unavailable_error", "draining")
            answer = await short
            assert answer.status_code == 200
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                async for _ in stream:
                    pass
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            with pytest.raises(httpx.ConnectError):
                await client.get("/healthz")


def test_a_metrics_port_that_is_taken_is_a_clear_error() -> None:
    server = MetricsServer(GatewayMetrics(), "127.0.0.1", 0)
    try:
        with pytest.raises(ConfigError, match=f"metrics_port {server.port}"):
            MetricsServer(GatewayMetrics(), "127.0.0.1", server.port)
    finally:
        server.close()
