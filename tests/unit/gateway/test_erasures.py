"""ErasureService against a real registry."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from expunge.registry.records import ErasureState
from expunge.rpc.operator.v1 import erasure_pb2 as pb
from expunge.rpc.operator.v1.erasure_pb2_grpc import ErasureServiceStub
from gateway.conftest import LiveGateway, bearer
from gateway.erasure_requests import erasure_about

pytestmark = pytest.mark.asyncio(loop_scope="module")
OPERATOR = bearer("operator")

GOOD = erasure_about("Nobody Known")
MALFORMED = {
    "no facts": ({"facts": []}, "facts"),
    "empty answer": ({"facts": [pb.Fact(question="Who?", answer=" ")]}, "facts[0].answer"),
    "10,001 facts": (
        {"facts": [pb.Fact(question=f"Question {n}?", answer=f"Answer {n}.") for n in range(10_001)]},
        "facts",
    ),
    "1 MB answer": ({"facts": [pb.Fact(question="Who?", answer="x" * 1_000_000)]}, "facts[0].answer"),
    "unknown alias": ({"aliases": ["elsewhere"]}, "aliases[0]"),
    "bad date": ({"due_at": "the 31st of February"}, "due_at"),
    "past date": ({"due_at": "2001-01-01T00:00:00Z"}, "due_at"),
    "unknown kind": ({"kind": 99}, "kind"),
    "no request id": ({"request_id": ""}, "request_id"),
}


@pytest.mark.parametrize("fault", MALFORMED)
async def test_a_malformed_erasure_names_its_field_and_stores_nothing(live: LiveGateway, fault: str) -> None:
    changes, field = MALFORMED[fault]
    fields = ("request_id", "kind", "subjects", "facts")
    kept = {name: getattr(GOOD, name) for name in fields if name not in changes}
    request = pb.CreateErasureRequest(**kept, **changes)
    before = await live.registry.list_erasures()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ErasureServiceStub(live.operator).CreateErasure(request, metadata=OPERATOR)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field in (caught.value.details() or "")
    assert await live.registry.list_erasures() == before


async def test_creating_twice_is_creating_once(live: LiveGateway) -> None:
    stub = ErasureServiceStub(live.operator)
    first = await stub.CreateErasure(erasure_about("Twice Sent"), metadata=OPERATOR)
    again = await stub.CreateErasure(erasure_about("Twice Sent"), metadata=OPERATOR)
    assert again.erasure.id == first.erasure.id
    assert first.erasure.aliases == ["default"]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.CreateErasure(erasure_about("Other Content", "about Twice Sent"), metadata=OPERATOR)
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS


async def test_each_state_is_shown_with_its_time(live: LiveGateway) -> None:
    stub = ErasureServiceStub(live.operator)
    erasure = (await stub.CreateErasure(erasure_about("Timed Person"), metadata=OPERATOR)).erasure
    await live.registry.advance_erasure(
        erasure.id, ErasureState.ACCEPTED, ErasureState.SUPPRESSED, data={"seconds_suppressed": 0.25}
    )
    shown = await stub.GetErasure(pb.GetErasureRequest(erasure_id=erasure.id), metadata=OPERATOR)
    assert [transition.state for transition in shown.transitions] == [
        pb.ERASURE_STATE_ACCEPTED,
        pb.ERASURE_STATE_SUPPRESSED,
    ]
    assert shown.transitions[0].seconds == 0
    assert shown.transitions[1].at.ToNanoseconds() >= shown.transitions[0].at.ToNanoseconds()
    assert shown.transitions[1].data["seconds_suppressed"] == 0.25
    assert shown.erasure.state == pb.ERASURE_STATE_SUPPRESSED


async def test_watching_resumes_and_ends_with_the_final_state(live: LiveGateway) -> None:
    stub = ErasureServiceStub(live.operator)
    erasure = (await stub.CreateErasure(erasure_about("Watched Person"), metadata=OPERATOR)).erasure
    watch = stub.WatchErasure(pb.WatchErasureRequest(erasure_id=erasure.id), metadata=OPERATOR)
    answers = aiter(watch)
    first = await anext(answers)
    assert first.state == pb.ERASURE_STATE_ACCEPTED
    await live.registry.advance_erasure(erasure.id, ErasureState.ACCEPTED, ErasureState.SUPPRESSED)
    cancelled = await stub.CancelErasure(
        pb.CancelErasureRequest(erasure_id=erasure.id, reason="asked for by mistake"), metadata=OPERATOR
    )
    assert cancelled.erasure.state == pb.ERASURE_STATE_CANCELLED
    async with asyncio.timeout(10):
        rest = [answer async for answer in answers]
        resumed = [
            answer
            async for answer in stub.WatchErasure(
                pb.WatchErasureRequest(erasure_id=erasure.id, after_seq=first.event.seq), metadata=OPERATOR
            )
        ]
    assert rest[-1].state == pb.ERASURE_STATE_CANCELLED
    assert [answer.event.seq for answer in resumed] == [answer.event.seq for answer in rest]


async def test_what_has_ended_can_not_be_cancelled(live: LiveGateway) -> None:
    stub = ErasureServiceStub(live.operator)
    erasure = (await stub.CreateErasure(erasure_about("Ended Person"), metadata=OPERATOR)).erasure
    request = pb.CancelErasureRequest(erasure_id=erasure.id, reason="no longer wanted")
    await stub.CancelErasure(request, metadata=OPERATOR)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.CancelErasure(request, metadata=OPERATOR)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_there_is_no_report_before_it_is_written(live: LiveGateway) -> None:
    stub = ErasureServiceStub(live.operator)
    erasure = (await stub.CreateErasure(erasure_about("Unreported Person"), metadata=OPERATOR)).erasure
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GetReport(pb.GetReportRequest(erasure_id=erasure.id), metadata=OPERATOR)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_erasures_are_listed_by_state_newest_first(live: LiveGateway) -> None:
    stub = ErasureServiceStub(live.operator)
    for name in ("Listed First", "Listed Second"):
        await stub.CreateErasure(erasure_about(name), metadata=OPERATOR)
    listed = await stub.ListErasures(
        pb.ListErasuresRequest(states=[pb.ERASURE_STATE_ACCEPTED]), metadata=OPERATOR
    )
    assert [erasure.request_id for erasure in listed.erasures][:2] == [
        "about Listed Second",
        "about Listed First",
    ]
    assert {erasure.state for erasure in listed.erasures} == {pb.ERASURE_STATE_ACCEPTED}
