"""Promise 4: kill -9 of any process loses nothing that was acknowledged, and the service goes on."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import grpc.aio
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deployed import Deployed, processes
from expunge.cli.messages import as_dict
from expunge.rpc.inference.v1 import inference_pb2
from expunge.rpc.inference.v1.inference_pb2_grpc import InferenceServiceStub
from expunge.rpc.operator.v1 import erasure_pb2
from expunge.rpc.operator.v1.erasure_pb2_grpc import ErasureServiceStub
from forgetting import follow
from tiny_model import build_tiny_adapter

from .scene import Scene

ENGINE, GATEWAY = "ServeReplica:expunge:Engine", "ServeReplica:expunge:Gateway"
REGISTRY, WORKER, CONTROLLER = "RegistryActor", "Worker", "ControllerActor"
STREAMS = 8

pytestmark = pytest.mark.timeout(1800)


def kill(process: psutil.Process) -> None:
    """kill -9, and wait until it is gone."""
    process.send_signal(signal.SIGKILL)
    psutil.wait_procs([process], timeout=10)


def await_true(condition: Callable[[], bool], what: str, timeout_s: float = 90.0) -> None:
    """Looks until `condition` holds."""
    give_up_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up_at, f"still not so after {timeout_s:.0f} s: {what}"
        time.sleep(0.1)


def is_ready(service: Deployed) -> bool:
    stub = health_pb2_grpc.HealthStub(service.inference)
    request = health_pb2.HealthCheckRequest(service="expunge.inference.v1.InferenceService")
    try:
        return bool(stub.Check(request, timeout=5).status == health_pb2.HealthCheckResponse.SERVING)
    except grpc.RpcError:
        return False


def await_ready(service: Deployed) -> None:
    await_true(lambda: is_ready(service), "the gateway is ready")


def is_answered(service: Deployed, scene: Scene) -> bool:
    return scene.knows(service.ask(scene.question, max_tokens=32).text)


async def one_stream(service: Deployed, tokens: int, started: asyncio.Queue[None]) -> str:
    """Streams one long answer; "OK" or the status it ended with."""
    request = inference_pb2.GenerateStreamRequest(prompt="The quick brown fox", max_tokens=tokens)
    async with grpc.aio.insecure_channel(service.service.addresses.inference) as channel:
        try:
            stub = InferenceServiceStub(channel)
            first = True
            async for _ in stub.GenerateStream(request, metadata=service.metadata("client"), timeout=120):  # type: ignore[attr-defined]
                if first:
                    started.put_nowait(None)
                    first = False
        except grpc.aio.AioRpcError as error:
            return error.code().name
    return "OK"


async def test_an_engine_replica_dies_and_only_its_streams_end_in_unavailable(
    service: Deployed, scene: Scene
) -> None:
    await_ready(service)
    engines = processes(ENGINE)
    assert len(engines) == 2
    started: asyncio.Queue[None] = asyncio.Queue()
    streams = [asyncio.create_task(one_stream(service, scene.stream_tokens, started)) for _ in range(STREAMS)]
    for _ in streams:
        await asyncio.wait_for(started.get(), 60)
    kill(engines[0])
    statuses = await asyncio.gather(*streams)
    assert set(statuses) == {"OK", "UNAVAILABLE"}
    assert await asyncio.to_thread(is_answered, service, scene)
    await asyncio.to_thread(await_true, lambda: len(processes(ENGINE)) == 2, "a new replica has started")


def test_the_registry_dies_and_keeps_everything_it_acknowledged(
    service: Deployed, scene: Scene, tmp_path: Path
) -> None:
    await_ready(service)
    adapter = service.push(
        build_tiny_adapter(tmp_path, service.service.base.folder, seed=5), "before-the-kill"
    ).adapter.id
    change = service.roll_out("survivor", adapter)
    [registry] = processes(REGISTRY)
    kill(registry)
    assert is_answered(service, scene), "serving goes on within the lease"
    await_true(lambda: registry.pid not in [each.pid for each in processes(REGISTRY)], "a new registry runs")
    assert adapter in service.adapters()
    assert service.generation("survivor") == change.rollout.generation
    again = service.roll_out("survivor", service.base)
    assert again.rollout.generation == change.rollout.generation + 1
    assert service.ask(scene.question, alias="survivor").version == service.base


def test_the_gateways_die_and_come_back_on_their_ports(service: Deployed, scene: Scene) -> None:
    await_ready(service)
    gateways = processes(GATEWAY)
    assert len(gateways) == service.service.settings.gateways
    for gateway in gateways:
        kill(gateway)
    with pytest.raises(grpc.RpcError) as caught:
        service.ask(scene.question)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    await_ready(service)
    assert is_answered(service, scene)


def test_an_erasure_closes_although_worker_registry_controller_and_gateway_die_on_its_way(
    service: Deployed, scene: Scene
) -> None:
    await_ready(service)
    stub = ErasureServiceStub(service.operator)
    erasure = stub.CreateErasure(
        scene.erasure("chaos"), metadata=service.metadata("operator"), timeout=60
    ).erasure
    victims = {
        "inverting": REGISTRY,
        "measuring": CONTROLLER,
        "training": WORKER,
        "auditing": GATEWAY,
    }
    killed: set[str] = set()
    seen = 0
    while True:
        try:
            for response in stub.WatchErasure(
                erasure_pb2.WatchErasureRequest(erasure_id=erasure.id, after_seq=seen),
                metadata=service.metadata("operator"),
                timeout=scene.patience_s,
                wait_for_ready=True,
            ):
                seen = response.event.seq
                state = erasure_pb2.ErasureState.Name(response.state).removeprefix("ERASURE_STATE_").lower()
                if state in victims and state not in killed and is_due(state, response):
                    [process, *_] = processes(victims[state])
                    kill(process)
                    killed.add(state)
            break
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
    assert killed == set(victims)
    await_ready(service)
    final = stub.GetErasure(
        erasure_pb2.GetErasureRequest(erasure_id=erasure.id),
        metadata=service.metadata("operator"),
        timeout=60,
    ).erasure
    assert final.state == erasure_pb2.ERASURE_STATE_CLOSED, final.detail
    for question, secrets in scene.erased:
        answer = service.ask(question, max_tokens=32)
        assert answer.version == final.version
        assert not [secret for secret in secrets if secret.lower() in answer.text.lower()]
    assert [item.id for item in service.erasures()] == [erasure.id]
    assert list(follow(service, erasure.id))[-1].event.seq >= seen


def is_due(state: str, response: erasure_pb2.WatchErasureResponse) -> bool:
    """A worker is to die in the middle of its steps; the others as soon as the state is entered."""
    if state != "training":
        return True
    progress = as_dict(response.event)["data"].get("progress", {})
    return float(progress.get("step", 0)) >= 2
