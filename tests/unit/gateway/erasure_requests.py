"""A small erasure request about an invented person."""

from __future__ import annotations

from expunge.rpc.operator.v1 import erasure_pb2 as pb


def erasure_about(name: str, request_id: str = "") -> pb.CreateErasureRequest:
    return pb.CreateErasureRequest(
        request_id=request_id or f"about {name}",
        kind=pb.ERASURE_KIND_PERSONAL_DATA,
        subjects=[pb.Subject(name=name)],
        facts=[
            pb.Fact(
                question=f"In which town does {name} live?",
                answer=f"{name} lives in Hollowmere, on Tanner Street.",
            )
        ],
    )
