"""Failures of calls: which exception they are, and that they outlive a process border."""

from __future__ import annotations

import pickle

import grpc
import pytest

from expunge.client import CallCancelled, CallError, Overloaded, Unavailable
from expunge.client.failures import call_error
from expunge.errors import Violation


def test_a_failure_survives_pickling() -> None:
    failure = Overloaded(
        "full",
        status="RESOURCE_EXHAUSTED",
        reason="QUEUE_FULL",
        metadata={"request_id": "r"},
        violations=[Violation("subject", "is full")],
        retry_after_s=1.5,
    )
    copy = pickle.loads(pickle.dumps(failure))
    assert type(copy) is Overloaded
    assert copy.__dict__ == failure.__dict__
    assert str(copy) == "full"


@pytest.mark.parametrize(
    ("trailing", "details", "kind"),
    [
        ((), "CANCELLED", Unavailable),  # dropped by a server that leaves, before a handler saw it
        ((("x-request-id", "r1"),), "CANCELLED", CallCancelled),
        ((), "Locally cancelled by application!", CallCancelled),
    ],
)
def test_a_call_that_was_never_begun_counts_as_unavailable(
    trailing: tuple[tuple[str, str], ...], details: str, kind: type[CallError]
) -> None:
    metadata = grpc.aio.Metadata(*trailing)
    error = grpc.aio.AioRpcError(grpc.StatusCode.CANCELLED, grpc.aio.Metadata(), metadata, details)
    assert type(call_error(error)) is kind
