"""Domain errors on the wire."""

from __future__ import annotations

import grpc
import pytest
from google.rpc import error_details_pb2

from expunge import errors
from expunge.errors import ExpungeError, Violation
from expunge.gateway.errors import code_of, status_of


def detail(error: ExpungeError, kind: type) -> object:
    found = kind()
    assert any(entry.Unpack(found) for entry in status_of(error, "request-1").details), kind
    return found


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.InvalidRequest, grpc.StatusCode.INVALID_ARGUMENT),
        (errors.InvalidAdapter, grpc.StatusCode.INVALID_ARGUMENT),
        (errors.NotFound, grpc.StatusCode.NOT_FOUND),
        (errors.AlreadyExists, grpc.StatusCode.ALREADY_EXISTS),
        (errors.BelowFloor, grpc.StatusCode.FAILED_PRECONDITION),
        (errors.VersionNotStaged, grpc.StatusCode.FAILED_PRECONDITION),
        (errors.StaleGeneration, grpc.StatusCode.ABORTED),
        (errors.Overloaded, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (errors.Unavailable, grpc.StatusCode.UNAVAILABLE),
        (errors.DeadlineExceeded, grpc.StatusCode.DEADLINE_EXCEEDED),
        (errors.Cancelled, grpc.StatusCode.CANCELLED),
        (errors.Unauthenticated, grpc.StatusCode.UNAUTHENTICATED),
        (errors.PermissionDenied, grpc.StatusCode.PERMISSION_DENIED),
        (errors.DataLoss, grpc.StatusCode.DATA_LOSS),
        (errors.Unimplemented, grpc.StatusCode.UNIMPLEMENTED),
        (errors.ModelError, grpc.StatusCode.INTERNAL),
        (errors.ExpungeError, grpc.StatusCode.INTERNAL),
    ],
)
def test_each_domain_error_has_its_code(kind: type[ExpungeError], code: grpc.StatusCode) -> None:
    assert code_of(kind("what happened")) is code


def test_every_error_says_its_reason_domain_and_request() -> None:
    info = detail(errors.NotFound("no such thing", metadata={"version": "v"}), error_details_pb2.ErrorInfo)
    assert info == error_details_pb2.ErrorInfo(
        reason="NOT_FOUND", domain="expunge", metadata={"version": "v", "request_id": "request-1"}
    )


def test_every_bad_field_is_named() -> None:
    error = errors.InvalidRequest("two faults", violations=[Violation("a", "is bad"), Violation("b", "too")])
    found = detail(error, error_details_pb2.BadRequest)
    assert isinstance(found, error_details_pb2.BadRequest)
    assert [(entry.field, entry.description) for entry in found.field_violations] == [
        ("a", "is bad"),
        ("b", "too"),
    ]


def test_a_precondition_and_a_quota_say_what_failed_and_when_to_retry() -> None:
    failure = detail(errors.BelowFloor("below"), error_details_pb2.PreconditionFailure)
    assert isinstance(failure, error_details_pb2.PreconditionFailure)
    assert failure.violations[0].type == "BELOW_ERASURE_FLOOR"
    overloaded = errors.Overloaded("full", retry_after_s=1.5)
    retry = detail(overloaded, error_details_pb2.RetryInfo)
    assert isinstance(retry, error_details_pb2.RetryInfo)
    assert retry.retry_delay.ToMilliseconds() == 1500
    detail(overloaded, error_details_pb2.QuotaFailure)


def test_an_internal_error_tells_an_id_and_nothing_else() -> None:
    status = status_of(errors.ModelError("/secret/path is corrupt"), "request-1")
    assert "secret" not in str(status)
    assert "request-1" in status.message


def test_details_fit_into_the_trailers() -> None:
    many = [Violation(f"facts[{index}].answer", "is empty; " * 5) for index in range(500)]
    status = status_of(errors.InvalidRequest("ä" * 5000, violations=many), "request-1")
    assert status.ByteSize() * 4 / 3 < 8192
    assert status.details
