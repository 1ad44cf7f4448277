"""A malformed erasure is refused by field, and nothing of it is stored or guarded."""

from __future__ import annotations

from collections.abc import Callable

import grpc
import pytest

from deployed import Deployed, failure_of
from expunge.rpc.operator.v1 import erasure_pb2 as pb
from expunge.rpc.operator.v1.erasure_pb2_grpc import ErasureServiceStub

QUESTION = "Where was Mira Voss born?"

Change = Callable[[pb.CreateErasureRequest], object]


def request(change: Change) -> pb.CreateErasureRequest:
    made = pb.CreateErasureRequest(
        request_id="malformed",
        kind=pb.ERASURE_KIND_PERSONAL_DATA,
        subjects=[pb.Subject(name="Mira Voss")],
        facts=[pb.Fact(question=QUESTION, answer="Mira Voss was born in Port Ellery.")],
    )
    change(made)
    return made


def many_facts(made: pb.CreateErasureRequest) -> None:
    made.facts.extend(pb.Fact(question=f"Question {n}?", answer=f"Answer {n}.") for n in range(10_000))


FAULTS: dict[str, tuple[Change, str]] = {
    "no request id": (lambda made: made.ClearField("request_id"), "request_id"),
    "no kind": (lambda made: made.ClearField("kind"), "kind"),
    "no subjects": (lambda made: made.ClearField("subjects"), "subjects"),
    "a nameless subject": (lambda made: made.subjects.add(name=" "), "subjects[1].name"),
    "no facts": (lambda made: made.ClearField("facts"), "facts"),
    "an empty answer": (lambda made: setattr(made.facts[0], "answer", ""), "facts[0].answer"),
    "an empty question": (lambda made: setattr(made.facts[0], "question", ""), "facts[0].question"),
    "10,001 facts": (many_facts, "facts"),
    "a 1 MB answer": (lambda made: setattr(made.facts[0], "answer", "x" * 2**20), "facts[0].answer"),
    "an unknown alias": (lambda made: made.aliases.append("nowhere"), "aliases[0]"),
    "a bad date": (lambda made: setattr(made, "due_at", "soon"), "due_at"),
    "a date in the past": (lambda made: setattr(made, "due_at", "2001-01-01"), "due_at"),
    "an empty retain answer": (lambda made: made.retain.add(question="Who?"), "retain[0].answer"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_malformed_erasure_names_its_field_and_stores_nothing(fault: str, service: Deployed) -> None:
    change, field = FAULTS[fault]
    before = list(service.erasures())
    with pytest.raises(grpc.RpcError) as caught:
        ErasureServiceStub(service.operator).CreateErasure(
            request(change), metadata=service.metadata("operator"), timeout=60
        )
    failure = failure_of(caught.value)
    assert failure.status == "INVALID_ARGUMENT"
    assert field in " ".join((failure.sentence, *failure.details))
    assert list(service.erasures()) == before
    assert service.ask(QUESTION).text, "no guard was set up"


def test_several_faults_are_all_named_at_once(service: Deployed) -> None:
    def plant(made: pb.CreateErasureRequest) -> None:
        made.facts[0].answer = ""
        made.due_at = "soon"
        made.aliases.append("nowhere")

    with pytest.raises(grpc.RpcError) as caught:
        ErasureServiceStub(service.operator).CreateErasure(
            request(plant), metadata=service.metadata("operator"), timeout=60
        )
    told = " ".join((failure_of(caught.value).sentence, *failure_of(caught.value).details))
    assert all(field in told for field in ("facts[0].answer", "due_at", "aliases[0]"))


def test_no_fact_text_reaches_the_error(service: Deployed) -> None:
    def plant(made: pb.CreateErasureRequest) -> None:
        made.due_at = "soon"

    with pytest.raises(grpc.RpcError) as caught:
        ErasureServiceStub(service.operator).CreateErasure(
            request(plant), metadata=service.metadata("operator"), timeout=60
        )
    assert "Ellery" not in str(caught.value)
