"""Every error becomes one sentence, a remedy, and an exit code that a script can tell from the others."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from expunge.cli.failures import ExitCode, of_call, of_error
from expunge.errors import InvalidRequest, NotFound, StaleGeneration, Unavailable


class AlwaysFails(grpc.GenericRpcHandler):
    """A server whose every method ends with the status of the hour."""

    status: status_pb2.Status

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        def fail(request: bytes, context: grpc.ServicerContext) -> bytes:
            context.abort_with_status(rpc_status.to_status(self.status))
            return b""

        return grpc.unary_unary_rpc_method_handler(fail)


@pytest.fixture(scope="module")
def failing() -> Iterator[tuple[AlwaysFails, grpc.Channel]]:
    handler = AlwaysFails()
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield handler, channel
    server.stop(None)


def failure_of(failing: tuple[AlwaysFails, grpc.Channel], code: int, message: str, *details: object):  # type: ignore[no-untyped-def]
    handler, channel = failing
    packed = []
    for detail in details:
        box = Any()
        box.Pack(detail)
        packed.append(box)
    handler.status = status_pb2.Status(code=code, message=message, details=packed)
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/any.Service/Method")(b"")
    return of_call(caught.value)


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        (code_pb2.INVALID_ARGUMENT, ExitCode.INVALID),
        (code_pb2.UNAUTHENTICATED, ExitCode.DENIED),
        (code_pb2.PERMISSION_DENIED, ExitCode.DENIED),
        (code_pb2.NOT_FOUND, ExitCode.NOT_FOUND),
        (code_pb2.ABORTED, ExitCode.PRECONDITION),
        (code_pb2.FAILED_PRECONDITION, ExitCode.PRECONDITION),
        (code_pb2.RESOURCE_EXHAUSTED, ExitCode.UNAVAILABLE),
        (code_pb2.DATA_LOSS, ExitCode.DATA_LOSS),
        (code_pb2.UNIMPLEMENTED, ExitCode.UNIMPLEMENTED),
        (code_pb2.INTERNAL, ExitCode.FAILED),
    ],
)
def test_each_status_has_its_exit_code(failing, code: int, exit_code: ExitCode) -> None:  # type: ignore[no-untyped-def]
    assert failure_of(failing, code, "it went wrong").code is exit_code


def test_reason_and_fields_are_taken_from_the_details(failing) -> None:  # type: ignore[no-untyped-def]
    bad = error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(field="facts[3].answer", description="is empty")
        ]
    )
    info = error_details_pb2.ErrorInfo(reason="INVALID_REQUEST", domain="expunge")
    failure = failure_of(failing, code_pb2.INVALID_ARGUMENT, "one field is wrong", info, bad)
    assert failure.reason == "INVALID_REQUEST"
    assert failure.sentence == "one field is wrong"
    assert failure.details == ("facts[3].answer: is empty",)


def test_retry_information_becomes_the_remedy(failing) -> None:  # type: ignore[no-untyped-def]
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(1500)
    failure = failure_of(failing, code_pb2.RESOURCE_EXHAUSTED, "the queue is full", retry)
    assert failure.remedy == "Try again in 1.5 s."


def test_a_service_that_is_not_there_is_named_as_such() -> None:
    with grpc.insecure_channel("127.0.0.1:1") as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/any.Service/Method")(b"", timeout=5)
    failure = of_call(caught.value)
    assert failure.code is ExitCode.UNAVAILABLE
    assert failure.sentence == "The service can't be reached."
    assert "expunge serve" in failure.remedy


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (InvalidRequest.of("facts", "is empty"), ExitCode.INVALID),
        (NotFound("no such erasure"), ExitCode.NOT_FOUND),
        (StaleGeneration("moved on"), ExitCode.PRECONDITION),
        (Unavailable("draining"), ExitCode.UNAVAILABLE),
    ],
)
def test_domain_errors_have_the_same_exit_codes(error: Exception, exit_code: ExitCode) -> None:
    assert of_error(error).code is exit_code  # type: ignore[arg-type]
