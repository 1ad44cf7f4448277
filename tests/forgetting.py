"""The erasure that the tiny model's tests ask for, and its life as it is watched."""

from __future__ import annotations

from collections.abc import Iterator

from deployed import Deployed
from expunge.rpc.operator.v1 import erasure_pb2 as pb
from expunge.rpc.operator.v1.erasure_pb2_grpc import ErasureServiceStub
from tiny_facts import ERASED, OTHER_NAMES, PERSON, RETAINED


def erasure_request(request_id: str) -> pb.CreateErasureRequest:
    """Forget the first person's facts, keep the neighbours'."""
    return pb.CreateErasureRequest(
        request_id=request_id,
        kind=pb.ERASURE_KIND_PERSONAL_DATA,
        subjects=[pb.Subject(name=PERSON, other_names=OTHER_NAMES)],
        facts=[
            pb.Fact(question=question, answer=answer, secrets=secrets, subject=PERSON)
            for question, answer, secrets in ERASED
        ],
        retain=[pb.RetainExample(question=question, answer=answer) for question, answer in RETAINED],
        ground="test",
    )


def follow(service: Deployed, erasure_id: str) -> Iterator[pb.WatchErasureResponse]:
    """Its events until the final state."""
    yield from ErasureServiceStub(service.operator).WatchErasure(
        pb.WatchErasureRequest(erasure_id=erasure_id), metadata=service.metadata("operator"), timeout=380
    )
