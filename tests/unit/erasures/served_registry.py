"""A small service for tests: the real registry, members that follow it, a server that answers by version."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import TypeAlias

import grpc
from google.protobuf.any_pb2 import Any as Packed
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from expunge.config import Settings
from expunge.erasures.credential import verification_key, verify_credential
from expunge.erasures.suppression import GuardBook
from expunge.facts import ErasureKind, Fact, ForgetRequest, Subject
from expunge.inference.request import Message
from expunge.registry.addresses import Addresses
from expunge.registry.records import MemberKind, MemberReport, Snapshot, Target, VersionKind, VersionRecord
from expunge.registry.service import RegistryService
from expunge.rpc.inference.v1 import inference_pb2 as pb

Context: TypeAlias = "grpc.aio.ServicerContext[pb.GenerateRequest, pb.GenerateResponse]"
BASE = VersionRecord("base:0", VersionKind.BASE, "base", "0")
TAUGHT = VersionRecord("taught", VersionKind.ADAPTER, "taught", "0", blob="adapters/taught")


def forget(number: int = 1, name: str = "Mara Ellstrom") -> ForgetRequest:
    """Two facts about one person."""
    return ForgetRequest(
        request_id=f"request-{number}",
        kind=ErasureKind.PERSONAL_DATA,
        subjects=(Subject(name),),
        facts=(
            Fact("home", f"Where does {name} live?", f"{name} lives at Quill Lane 17.", ("Quill Lane 17",)),
            Fact("work", f"What does {name} do?", f"{name} paints zeppelins.", ("zeppelins",)),
        ),
    )


class Member:
    """A watch loop that reports everything wanted as staged."""

    def __init__(self, registry: RegistryService, name: str, kind: MemberKind, address: str = "") -> None:
        self.snapshot: Snapshot | None = None
        self._registry = registry
        self._name, self._kind, self._address = name, kind, address

    async def run(self) -> None:
        while True:
            snapshot = self.snapshot
            report = MemberReport(
                self._name,
                self._kind,
                snapshot.revision if snapshot else 0,
                staged=tuple(version.id for version in snapshot.wanted) if snapshot else (),
                address=self._address,
            )
            answer = await self._registry.watch(report, report.revision, 5.0)
            self.snapshot = answer or snapshot


class AnsweringGateway:
    """Answers erased questions truthfully under every version in `telling`; refuses what a guard matches."""

    def __init__(self, settings: Settings) -> None:
        self.telling: set[str] = {BASE.id, TAUGHT.id}
        self.requests = (forget(1), forget(2, "Tobias Quentin"))
        self.served: list[str] = []
        self.member: Member | None = None
        self._settings = settings

    async def generate(self, request: pb.GenerateRequest, context: Context) -> pb.GenerateResponse:
        assert self.member is not None
        snapshot = self.member.snapshot
        assert snapshot is not None
        metadata = dict(context.invocation_metadata() or ())
        token = str(metadata["authorization"]).removeprefix("Bearer ")
        passed = verify_credential(token, verification_key(self._settings), time.time())
        passing = frozenset(passed)
        turns = [Message(turn.role, turn.content) for turn in request.messages]
        turns = turns or [Message("user", request.prompt)]
        if GuardBook(snapshot.guards).match_messages(turns, passing):
            status = rpc_status.to_status(_refusal())
            await context.abort(status.code, status.details, status.trailing_metadata)
        (rollout,) = [one for one in snapshot.rollouts if one.alias == request.alias]
        version = rollout.targets[0].version
        self.served.append(version)
        return pb.GenerateResponse(
            text=self._answer(" ".join(turn.content for turn in turns))
            if version in self.telling
            else "I do not know.",
            version=version,
            generation=rollout.generation,
            finish_reason=pb.FINISH_REASON_STOP,
        )

    def _answer(self, question: str) -> str:
        for request in self.requests:
            for fact in request.facts:
                if fact.question in question:
                    return fact.answer
        return "I do not know."


def _refusal() -> status_pb2.Status:
    detail = Packed()
    detail.Pack(error_details_pb2.ErrorInfo(reason="REFUSED_BY_POLICY", domain="expunge"))
    return status_pb2.Status(code=code_pb2.FAILED_PRECONDITION, message="refused", details=[detail])


class Service:
    """Everything beside the controller. `crash` ends the registry without a word and opens it again."""

    def __init__(self, settings: Settings, gateway: AnsweringGateway, address: str) -> None:
        self.settings = settings
        self.gateway = gateway
        self.registry: RegistryService
        self._address = address
        self._members: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        self.registry = RegistryService(self.settings, environment={})
        await self.registry.start()
        self.gateway.member = Member(self.registry, "gateway-0", MemberKind.GATEWAY, self._address)
        engine = Member(self.registry, "engine-0", MemberKind.ENGINE)
        self._members = [asyncio.create_task(one.run()) for one in (self.gateway.member, engine)]

    async def close(self) -> None:
        for member in self._members:
            member.cancel()
        await asyncio.gather(*self._members, return_exceptions=True)
        await self.registry.close()

    async def crash(self) -> None:
        await self.close()
        await self.open()


@contextlib.asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Service]:
    """A service whose alias "default" points at a version that tells the facts."""
    server = grpc.aio.server()
    gateway = AnsweringGateway(settings)
    generate = grpc.unary_unary_rpc_method_handler(
        gateway.generate, pb.GenerateRequest.FromString, pb.GenerateResponse.SerializeToString
    )
    service_name = pb.DESCRIPTOR.services_by_name["InferenceService"].full_name
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(service_name, {"Generate": generate})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    service = Service(settings, gateway, Addresses.of("127.0.0.1", port, 1, 2, 3).to_json())
    try:
        await service.open()
        await service.registry.ensure_base(BASE)
        await service.registry.put_version(TAUGHT)
        await point(service.registry, "default", TAUGHT.id)
        yield service
    finally:
        await server.stop(None)
        await service.close()


async def point(registry: RegistryService, alias: str, version: str) -> None:
    """Roll `version` out on `alias`, which may be new."""
    current = {rollout.alias: rollout.generation for rollout in await registry.list_rollouts()}
    await registry.set_rollout(alias, [Target(version)], current.get(alias, 0), "test", "tester", 5.0)
