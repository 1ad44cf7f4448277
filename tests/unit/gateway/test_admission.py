"""Who is admitted by a gateway, over the wire, against an engine that a test drives by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import grpc
import pytest
import yaml
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from expunge.config import Settings
from expunge.errors import Unavailable
from expunge.gateway.base_model import special_tokens_key
from expunge.gateway.gateway import Gateway
from expunge.gateway.quotas import Quota
from expunge.gateway.tokens import TokenTable
from expunge.inference.request import Priority
from expunge.registry.blobs import BlobStore
from expunge.registry.records import VersionKind, VersionRecord
from expunge.registry.service import RegistryService
from expunge.rpc.inference.v1 import inference_pb2 as pb
from expunge.rpc.inference.v1.inference_pb2_grpc import InferenceServiceStub
from gateway.conftest import VERIFICATION_KEY
from gateway.hand_clock import HandClock
from gateway.scripted_engine import ScriptedEngine
from gateway.trailers import Trailers

ASKED = pb.GenerateStreamRequest(prompt="x" * 40, max_tokens=90)  # 100 tokens, as estimated


@dataclass
class Stage:
    """A gateway, the engine behind it, and the clock that quotas and pace go by."""

    gateway: Gateway
    registry: RegistryService
    engine: ScriptedEngine
    clock: HandClock
    stub: InferenceServiceStub

    def stream(self, client: str, timeout: float | None = None) -> grpc.aio.UnaryStreamCall:  # type: ignore[type-arg]
        return self.stub.GenerateStream(ASKED, metadata=bearer(client), timeout=timeout)

    async def refusal(self, client: str, timeout: float | None = None) -> Trailers:
        """The error of one more stream, which must be refused."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.stream(client, timeout).read()
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED, caught.value.details()
        return Trailers(caught.value)

    async def idle(self) -> None:
        """Wait until nothing is under way any more and everything is settled."""
        async with asyncio.timeout(30):
            while self.metric("expunge_admitted_answers"):  # noqa: ASYNC110  # a gauge has no event
                await asyncio.sleep(0.01)

    def metric(self, name: str, **labels: str) -> float | None:
        return self.gateway.metrics.registry.get_sample_value(name, labels)


def bearer(client: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer token-of-{client}"),)


@asynccontextmanager
async def staged(
    folder: Path, clients: dict[str, dict[str, object]], inference_port: int = 0, **changes: object
) -> AsyncIterator[Stage]:
    settings = Settings(
        state_dir=folder,
        inference_port=inference_port,
        operator_port=0,
        http_port=0,
        metrics_port=0,
        lease_s=1e6,  # the clock that is put forward is the lease's, too
        **changes,  # type: ignore[arg-type]
    )
    tokens = folder / "tokens.yaml"
    entries = [
        {"token_sha256": sha256(f"token-of-{name}".encode()).hexdigest(), "principal": name, "role": "client"}
        | fields
        for name, fields in clients.items()
    ]
    tokens.write_text(yaml.safe_dump({"tokens": entries}))
    registry, engine, clock = RegistryService(settings, environment={}), ScriptedEngine(), HandClock()
    await registry.start()
    await registry.ensure_base(VersionRecord("base:tiny", VersionKind.BASE, "base", "tiny"))
    blobs = BlobStore(settings.resolved_blob_url)
    blobs.put_bytes(special_tokens_key("tiny"), b"[]")
    gateway = Gateway(
        settings,
        "gateway-0",
        registry=registry,
        engine=engine,
        blobs=blobs,
        tokens=TokenTable.read(tokens, Quota.of(settings)),
        verification_key=VERIFICATION_KEY,
        clock=clock,
    )
    await gateway.start()
    try:
        async with grpc.aio.insecure_channel(gateway.addresses.inference) as channel:
            yield Stage(gateway, registry, engine, clock, InferenceServiceStub(channel))
    finally:
        await gateway.drain(notice_s=0.0, grace_s=0.0)
        await registry.close()


def details(trailers: Trailers) -> dict[str, object]:
    """The google.rpc details by the name of their type."""
    status = rpc_status.from_call(trailers)
    kinds = (error_details_pb2.ErrorInfo, error_details_pb2.RetryInfo, error_details_pb2.QuotaFailure)
    found: dict[str, object] = {}
    for detail in status.details:
        for kind in kinds:
            if detail.Is(kind.DESCRIPTOR):
                message = kind()
                detail.Unpack(message)
                found[kind.__name__] = message
    return found


async def test_a_flood_is_refused_beyond_its_quota_and_another_client_is_admitted_at_once(
    tmp_path: Path,
) -> None:
    async with staged(tmp_path, {"flood": {"max_concurrent": 4}, "quiet": {}}) as stage:
        flood = [stage.stream("flood") for _ in range(4)]
        await stage.engine.holds(4)
        for _ in range(20):
            found = details(await stage.refusal("flood"))
        assert found["ErrorInfo"].reason == "CONCURRENCY_QUOTA"
        assert found["RetryInfo"].retry_delay.seconds == 1
        [violation] = found["QuotaFailure"].violations
        assert violation.subject == "client:flood"
        assert (violation.quota_id, violation.quota_value) == ("max_concurrent", 4)
        assert "max_concurrent allows 4" in violation.description

        quiet = [stage.stream("quiet") for _ in range(3)]
        await stage.engine.holds(7)
        assert len(stage.engine.of("quiet")) == 3
        assert stage.metric("expunge_client_answers", client="flood") == 4
        assert stage.metric("expunge_admitted_answers") == 7
        assert stage.metric("expunge_admission_rejections_total", reason="CONCURRENCY_QUOTA") == 20

        flood[0].cancel()
        await stage.engine.holds(6)
        flood.append(stage.stream("flood"))
        await stage.engine.holds(7)
        for stream in (*flood, *quiet):
            stream.cancel()
        await stage.idle()


async def test_a_flood_without_a_quota_of_its_own_leaves_places_for_others(tmp_path: Path) -> None:
    changes = {"max_requests": 12, "client_max_concurrent": 1000}
    async with staged(tmp_path, {"flood": {}, "quiet": {}}, **changes) as stage:
        streams = [stage.stream("flood") for _ in range(6)]
        await stage.engine.holds(6)
        found = details(await stage.refusal("flood"))
        assert found["ErrorInfo"].reason == "GATEWAY_FULL"
        assert found["RetryInfo"].retry_delay.seconds == 1
        streams += [stage.stream("quiet") for _ in range(3)]
        await stage.engine.holds(9)
        assert len(stage.engine.of("quiet")) == 3
        for stream in streams:
            stream.cancel()
        await stage.idle()


async def test_tokens_are_reserved_settled_and_come_back_at_their_rate(tmp_path: Path) -> None:
    quota = {"tokens_per_minute": 600, "burst_tokens": 150}
    async with staged(tmp_path, {"alice": quota}) as stage:
        stream = stage.stream("alice")
        await stage.engine.holds(1)
        found = details(await stage.refusal("alice"))
        assert found["ErrorInfo"].reason == "TOKEN_QUOTA"
        assert found["RetryInfo"].retry_delay.seconds == 5

        stage.engine.rows[0].give(20)
        stage.engine.rows[0].finish(prompt_tokens=15, completion_tokens=20)  # 35 of 100 reserved
        assert sum([chunk.token_count async for chunk in stream]) == 20
        await stage.idle()
        assert stage.metric("expunge_client_tokens_total", client="alice") == 35
        assert stage.metric("expunge_client_answers", client="alice") is None

        stream = stage.stream("alice")  # 115 left
        await stage.engine.holds(1)
        stage.engine.rows[0].fail(Unavailable("the replica was lost"))
        with pytest.raises(grpc.aio.AioRpcError):
            await stream.read()
        assert stage.metric("expunge_client_tokens_total", client="alice") == 35, "what failed is not charged"

        stream = stage.stream("alice")
        await stage.engine.holds(1)
        stage.engine.rows[0].give(20)
        await stream.read()
        stream.cancel()
        await stage.idle()
        assert stage.metric("expunge_client_tokens_total", client="alice") == 35 + 10 + 20
        found = details(await stage.refusal("alice"))  # 85 are left
        assert found["RetryInfo"].retry_delay.ToMilliseconds() == 1500
        stage.clock.pass_by(1.5)
        stream = stage.stream("alice")
        await stage.engine.holds(1)
        stream.cancel()
        await stage.idle()


async def test_a_request_above_its_quota_is_told_so_and_not_to_try_again(tmp_path: Path) -> None:
    async with staged(tmp_path, {"alice": {"tokens_per_minute": 60}}) as stage:
        found = details(await stage.refusal("alice"))
        assert found["ErrorInfo"].reason == "REQUEST_ABOVE_QUOTA"
        assert found["ErrorInfo"].metadata["limit"] == "60"
        assert "RetryInfo" not in found


async def test_a_deadline_that_the_first_token_can_not_meet_is_refused_at_once(tmp_path: Path) -> None:
    async with staged(tmp_path, {"alice": {}}) as stage:
        for _ in range(30):
            stream = stage.stream("alice")
            await stage.engine.holds(1)
            stage.clock.pass_by(7)
            stage.engine.rows[0].give(1)
            stage.engine.rows[0].finish(prompt_tokens=15, completion_tokens=1)
            assert [chunk async for chunk in stream]
            await stage.idle()
        found = details(await stage.refusal("alice", timeout=3))
        assert found["ErrorInfo"].reason == "DEADLINE_UNREACHABLE"
        assert found["ErrorInfo"].metadata["estimate_s"] == "7.000"
        assert float(found["ErrorInfo"].metadata["deadline_s"]) < 7
        assert found["RetryInfo"].retry_delay.seconds in (3, 4)  # when 3 s will do
        assert stage.metric("expunge_admission_rejections_total", reason="DEADLINE_UNREACHABLE") == 1
        enough = stage.stream("alice", timeout=60)
        await stage.engine.holds(1)
        enough.cancel()
        await stage.idle()


async def test_the_engine_hears_whose_request_it_is_and_no_higher_priority_than_allowed(
    tmp_path: Path,
) -> None:
    async with staged(tmp_path, {"person": {}, "nightly": {"priority": "batch"}}) as stage:
        streams = [stage.stream(name) for name in ("person", "nightly")]
        await stage.engine.holds(2)
        [person], [nightly] = stage.engine.of("person"), stage.engine.of("nightly")
        assert person.request.priority is Priority.INTERACTIVE
        assert nightly.request.priority is Priority.BATCH
        for stream in streams:
            stream.cancel()
        await stage.idle()
