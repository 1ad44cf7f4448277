"""Promise 6: deny by default. Every RPC that reflection shows refuses strangers before its handler runs."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from deployed import Deployed, Metadata

PUBLIC = ("grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection")
BAD_TOKENS: dict[str, Metadata] = {
    "no token": (),
    "a wrong token": (("authorization", "Bearer expunge-operator-guessed"),),
    "a token without its scheme": (("authorization", "expunge"),),
    "an empty token": (("authorization", "Bearer "),),
}


def methods(channel: grpc.Channel) -> Iterator[str]:
    """Full names of all methods that the server itself lists, but the public services'."""
    database = ProtoReflectionDescriptorDatabase(channel)
    pool = DescriptorPool(database)
    for service in database.get_services():
        if service not in PUBLIC:
            for method in pool.FindServiceByName(service).methods:
                yield f"/{service}/{method.name}"


def status_of(channel: grpc.Channel, method: str, metadata: Metadata) -> grpc.StatusCode:
    """Sends one empty message and reads to the end."""
    call = channel.stream_stream(method)(iter([b""]), metadata=metadata, timeout=30)
    with pytest.raises(grpc.RpcError):
        list(call)
    return call.code()


def test_reflection_shows_every_service(service: Deployed) -> None:
    inference = {name.split("/")[1] for name in methods(service.inference)}
    operator = {name.split("/")[1].rpartition(".")[2] for name in methods(service.operator)}
    assert inference == {"expunge.inference.v1.InferenceService"}
    assert operator == {
        "AdapterService",
        "RolloutService",
        "ErasureService",
        "TrainingService",
        "AuditService",
        "LedgerService",
    }


@pytest.mark.parametrize("kind", BAD_TOKENS)
def test_every_method_refuses_strangers(service: Deployed, kind: str) -> None:
    for channel in (service.inference, service.operator):
        for method in methods(channel):
            assert status_of(channel, method, BAD_TOKENS[kind]) is grpc.StatusCode.UNAUTHENTICATED, method


def test_every_operator_method_refuses_a_client(service: Deployed) -> None:
    for method in methods(service.operator):
        status = status_of(service.operator, method, service.metadata("client"))
        assert status is grpc.StatusCode.PERMISSION_DENIED, method


def test_an_auditor_may_not_generate_or_change_anything(service: Deployed) -> None:
    denied = (
        (service.inference, "/expunge.inference.v1.InferenceService/Generate"),
        (service.operator, "/expunge.operator.v1.RolloutService/SetRollout"),
        (service.operator, "/expunge.operator.v1.ErasureService/CreateErasure"),
        (service.operator, "/expunge.operator.v1.AdapterService/PushAdapter"),
    )
    for channel, method in denied:
        assert status_of(channel, method, service.metadata("auditor")) is grpc.StatusCode.PERMISSION_DENIED


def test_a_method_that_does_not_exist_is_refused_too(service: Deployed) -> None:
    status = status_of(service.operator, "/expunge.operator.v1.RolloutService/Nothing", ())
    assert status in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED)


def test_what_is_not_built_yet_says_so_to_those_who_may_call_it(service: Deployed) -> None:
    for method in (
        "/expunge.operator.v1.LedgerService/GetCheckpoint",
        "/expunge.operator.v1.ErasureService/ExtendErasure",
        "/expunge.operator.v1.TrainingService/SetPool",
        "/expunge.operator.v1.RolloutService/RequestOverride",
    ):
        assert (
            status_of(service.operator, method, service.metadata("operator")) is grpc.StatusCode.UNIMPLEMENTED
        ), method
