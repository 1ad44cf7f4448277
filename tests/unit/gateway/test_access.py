"""Nobody unasked: every RPC that reflection shows, with no token, a wrong one, and one of another role."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from expunge.erasures.credential import issue_credential
from expunge.gateway.roles import METHOD_ROLES, Role
from expunge.gateway.server import MAX_OPERATOR_BYTES
from gateway.conftest import VERIFICATION_KEY, LiveGateway, bearer
from gateway.trailers import Trailers

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def reflected_methods(channel: grpc.aio.Channel) -> list[MethodDescriptor]:
    """Every method of our own services that the server says it has."""
    names = [
        service.name
        for service in (await _reflect(channel, list_services="")).list_services_response.service
        if service.name.startswith("expunge.")
    ]
    pool = DescriptorPool()
    for name in names:
        answer = await _reflect(channel, file_containing_symbol=name)
        for serialized in answer.file_descriptor_response.file_descriptor_proto:
            file = FileDescriptorProto.FromString(serialized)
            for dependency in file.dependency:
                await _add_file(channel, pool, dependency)
            pool.Add(file)
    return [method for name in names for method in pool.FindServiceByName(name).methods]


async def _add_file(channel: grpc.aio.Channel, pool: DescriptorPool, name: str) -> None:
    answer = await _reflect(channel, file_by_filename=name)
    for serialized in answer.file_descriptor_response.file_descriptor_proto:
        file = FileDescriptorProto.FromString(serialized)
        for dependency in file.dependency:
            await _add_file(channel, pool, dependency)
        pool.Add(file)


async def _reflect(channel: grpc.aio.Channel, **request: str) -> reflection_pb2.ServerReflectionResponse:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    (answer,) = [
        answer
        async for answer in stub.ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(**request)])
        )
    ]
    return answer


async def call(
    channel: grpc.aio.Channel, method: MethodDescriptor, metadata: Iterable[tuple[str, str]]
) -> grpc.StatusCode:
    """Send one empty request and tell how the call ended."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    request = GetMessageClass(method.input_type)()
    shapes = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, False): channel.stream_unary,
        (True, True): channel.stream_stream,
    }
    answer_type = GetMessageClass(method.output_type)
    multi = shapes[method.client_streaming, method.server_streaming](
        path,
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=answer_type.FromString,
    )
    started = multi(
        iter([request]) if method.client_streaming else request, metadata=tuple(metadata), timeout=5
    )
    try:
        if method.server_streaming:
            async for _ in started:
                break
            return grpc.StatusCode.OK
        await started
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


@pytest.fixture(scope="module")
def channels(live: LiveGateway) -> tuple[grpc.aio.Channel, grpc.aio.Channel]:
    return live.inference, live.operator


async def all_methods(
    channels: tuple[grpc.aio.Channel, ...],
) -> AsyncIterator[tuple[grpc.aio.Channel, MethodDescriptor]]:
    for channel in channels:
        for method in await reflected_methods(channel):
            yield channel, method


async def test_the_table_of_roles_names_exactly_the_methods_that_exist(
    channels: tuple[grpc.aio.Channel, grpc.aio.Channel],
) -> None:
    found = {
        f"/{method.containing_service.full_name}/{method.name}" async for _, method in all_methods(channels)
    }
    assert found == set(METHOD_ROLES)


@pytest.mark.parametrize(
    "metadata",
    [(), (("authorization", "Bearer wrong"),), (("authorization", "token-of-admin"),)],
    ids=["no token", "wrong token", "no bearer scheme"],
)
async def test_every_method_refuses_strangers_before_its_handler_runs(
    channels: tuple[grpc.aio.Channel, grpc.aio.Channel], metadata: tuple[tuple[str, str], ...]
) -> None:
    async for channel, method in all_methods(channels):
        assert await call(channel, method, metadata) is grpc.StatusCode.UNAUTHENTICATED, method.full_name


@pytest.mark.parametrize("role", [Role.CLIENT, Role.AUDITOR, Role.OPERATOR, Role.BREAK_GLASS])
async def test_every_method_refuses_roles_it_does_not_name(
    channels: tuple[grpc.aio.Channel, grpc.aio.Channel], role: Role
) -> None:
    refused = 0
    async for channel, method in all_methods(channels):
        path = f"/{method.containing_service.full_name}/{method.name}"
        if role not in METHOD_ROLES[path]:
            assert await call(channel, method, bearer(role)) is grpc.StatusCode.PERMISSION_DENIED, path
            refused += 1
    assert refused > 0


async def test_a_client_can_call_nothing_on_the_operator_port(
    channels: tuple[grpc.aio.Channel, grpc.aio.Channel],
) -> None:
    for method in await reflected_methods(channels[1]):
        assert await call(channels[1], method, bearer("client")) is grpc.StatusCode.PERMISSION_DENIED


async def test_the_verification_credential_generates_and_nothing_else(
    live: LiveGateway, channels: tuple[grpc.aio.Channel, grpc.aio.Channel]
) -> None:
    import time

    token = issue_credential("er-1", VERIFICATION_KEY, time.time(), 60.0)
    metadata = (("authorization", f"Bearer {token}"),)
    allowed = set()
    async for channel, method in all_methods(channels):
        code = await call(channel, method, metadata)
        assert code is not grpc.StatusCode.UNAUTHENTICATED
        if code is not grpc.StatusCode.PERMISSION_DENIED:
            allowed.add(method.name)
    assert allowed == {"Generate", "GenerateStream", "Score", "ListModels"}


async def test_methods_that_are_not_built_say_so_to_those_who_may_call_them(live: LiveGateway) -> None:
    unbuilt = {
        **dict.fromkeys(("SetPool", "RequestOverride", "ExtendErasure", "RefuseErasure"), "admin"),
        **dict.fromkeys(("AcknowledgeRecipient", "GetCheckpoint", "GetEntry", "ListEntries"), "admin"),
        **dict.fromkeys(("GetInclusionProof", "GetConsistencyProof", "Export"), "admin"),
        "ApproveOverride": "break-glass",
    }
    for method in await reflected_methods(live.operator):
        if method.name in unbuilt:
            code = await call(live.operator, method, bearer(unbuilt.pop(method.name)))
            assert code is grpc.StatusCode.UNIMPLEMENTED, method.full_name
    assert not unbuilt


async def test_a_method_that_does_not_exist_is_unimplemented(live: LiveGateway) -> None:
    missing = live.operator.unary_unary("/expunge.operator.v1.RolloutService/Nothing")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await missing(b"", metadata=bearer("admin"))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_request_that_is_refused_is_not_even_received(live: LiveGateway) -> None:
    """It is larger than any that is received, which would be RESOURCE_EXHAUSTED."""
    create = live.operator.unary_unary("/expunge.operator.v1.ErasureService/CreateErasure")
    for metadata, code in (
        ((), grpc.StatusCode.UNAUTHENTICATED),
        (bearer("client"), grpc.StatusCode.PERMISSION_DENIED),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await create(bytes(MAX_OPERATOR_BYTES + 1), metadata=metadata, timeout=10)
        assert caught.value.code() is code


async def test_a_refusal_says_why_and_is_counted(live: LiveGateway) -> None:
    def counted() -> float | None:
        labels = {"method": method, "code": "UNAUTHENTICATED"}
        return live.gateway.metrics.registry.get_sample_value("expunge_request_failures_total", labels)

    method = "/expunge.operator.v1.RolloutService/ListRollouts"
    before = counted() or 0.0
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await live.operator.unary_unary(method)(b"", metadata=(("x-request-id", "mine"),))
    trailers = Trailers(caught.value)
    info = error_details_pb2.ErrorInfo()
    assert rpc_status.from_call(trailers).details[0].Unpack(info)
    assert (info.reason, info.metadata["request_id"]) == ("UNAUTHENTICATED", "mine")
    assert ("x-request-id", "mine") in trailers.trailing_metadata()
    assert counted() == before + 1
