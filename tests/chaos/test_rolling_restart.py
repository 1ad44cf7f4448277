"""A rolling restart of the gateways under load: no unary call is lost, and streams are given the grace."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import aclosing
from dataclasses import dataclass, field

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from ray import serve
from ray.serve.context import _get_global_client

from deployed import Deployed, processes
from expunge.benchmarks.serving.prompts import end_tokens
from expunge.client import AsyncClient, CallError, Sampling
from expunge.gateway.deployment import build_gateway
from expunge.gateway.launch import APPLICATION
from expunge.inference.deployment import NAME as ENGINE_NAME
from expunge.inference.deployment import build_engine
from expunge.rpc.inference.v1 import inference_pb2 as pb
from expunge.rpc.inference.v1.inference_pb2_grpc import InferenceServiceStub

from .scene import Scene
from .test_kills import ENGINE, GATEWAY, await_ready

ASKERS, STREAMERS, WATCHERS = 4, 2, 6
CALLS = 4  # over one connection, before a new one is made
IMPOSSIBLE = -100.0
OWN_CONNECTION = ("grpc.use_local_subchannel_pool", 1)


@dataclass
class Seen:
    """What clients saw while the gateways were replaced.

    Attributes:
        unary, streams: how calls of `expunge.client` ended, tried again as it does by itself.
        short, long: how streams ended that were begun when their gateway had said that it leaves.
        given_s: from that word to the end of the long ones.
    """

    unary: Counter[str] = field(default_factory=Counter)
    streams: Counter[str] = field(default_factory=Counter)
    short: Counter[str] = field(default_factory=Counter)
    long: Counter[str] = field(default_factory=Counter)
    given_s: list[float] = field(default_factory=list)


async def test_gateways_are_replaced_under_load_without_a_lost_unary_call(
    service: Deployed, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await_ready(service)
    monkeypatch.setattr("expunge.client.channel.CHANNEL_OPTIONS", (OWN_CONNECTION,))
    before, engines = pids(GATEWAY), pids(ENGINE)
    assert len(before) == service.service.settings.gateways == 2
    over, watching, seen = asyncio.Event(), asyncio.Barrier(WATCHERS + 1), Seen()
    async with asyncio.TaskGroup() as clients:
        for _ in range(WATCHERS):
            clients.create_task(stream_once_it_leaves(service, watching, seen))
        for _ in range(ASKERS):
            clients.create_task(keep_asking(service, over, seen))
        for _ in range(STREAMERS):
            clients.create_task(keep_streaming(service, over, seen))
        await watching.wait()
        await asyncio.to_thread(replace_gateways, service)
        over.set()
    assert not before & pids(GATEWAY)
    assert pids(ENGINE) == engines
    assert set(seen.unary) == {"length"}, seen.unary
    assert set(seen.streams) <= {"length", "UNAVAILABLE"}, seen.streams  # some outlast the grace
    assert seen.streams["length"]
    assert seen.short == {"OK": WATCHERS}
    assert seen.long == {"UNAVAILABLE": WATCHERS}
    assert min(seen.given_s) >= service.service.settings.drain_grace_s


async def keep_asking(service: Deployed, over: asyncio.Event, seen: Seen) -> None:
    sampling = Sampling(logit_bias=endless(service))
    while not over.is_set():
        async with new_client(service) as client:
            for _ in range(CALLS):
                try:
                    answer = await client.generate(prompt="The quick", sampling=sampling, max_tokens=4)
                    seen.unary[answer.finish_reason.value] += 1
                except CallError as error:
                    seen.unary[f"{error.status} {error.reason}: {error.message}"] += 1


async def keep_streaming(service: Deployed, over: asyncio.Event, seen: Seen) -> None:
    sampling = Sampling(logit_bias=endless(service))
    while not over.is_set():
        async with new_client(service) as client:
            end = "no finish reason"
            try:
                async with aclosing(
                    client.stream(prompt="The quick", sampling=sampling, max_tokens=16)
                ) as chunks:
                    async for chunk in chunks:
                        end = chunk.finish_reason.value if chunk.finish_reason else end
            except CallError as error:
                end = error.status
            seen.streams[end] += 1


async def stream_once_it_leaves(service: Deployed, watching: asyncio.Barrier, seen: Seen) -> None:
    """Waits for one gateway's NOT_SERVING; then streams over the same connection, within the notice."""
    async with grpc.aio.insecure_channel(
        service.service.addresses.inference, options=[OWN_CONNECTION]
    ) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        await watching.wait()
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        told_at = time.monotonic()
        stub = InferenceServiceStub(channel)
        long = asyncio.create_task(end_of(stub, service, 1900))
        seen.short[await end_of(stub, service, 4)] += 1
        seen.long[await long] += 1
        seen.given_s.append(time.monotonic() - told_at)


async def end_of(stub: InferenceServiceStub, service: Deployed, tokens: int) -> str:
    """Streams one answer; "OK" or the status it ended with."""
    request = pb.GenerateStreamRequest(
        prompt="The quick", max_tokens=tokens, sampling=pb.Sampling(logit_bias=endless(service))
    )
    try:
        async for _ in stub.GenerateStream(request, metadata=service.metadata("client")):  # type: ignore[attr-defined]
            pass
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


def endless(service: Deployed) -> dict[int, float]:
    """Keeps answers from ending before `max_tokens`."""
    return dict.fromkeys(end_tokens(service.service.base.folder), IMPOSSIBLE)


def new_client(service: Deployed) -> AsyncClient:
    token = dict(service.metadata("client"))["authorization"].removeprefix("Bearer ")
    return AsyncClient(service.service.addresses.inference, token)


def pids(title: str) -> set[int]:
    return {process.pid for process in processes(title)}


def replace_gateways(service: Deployed) -> None:
    """Deploys anew, until Serve has replaced the gateways; engines keep their version, and so go on."""
    settings = service.service.settings
    engine = build_engine(settings)
    deployed, _ = _get_global_client().get_deployment_info(ENGINE_NAME, APPLICATION)
    engine._bound_deployment._version = deployed.version  # Serve draws a new one where none is given
    serve.run(build_gateway(settings, engine), name=APPLICATION, route_prefix=None)
