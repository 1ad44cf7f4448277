"""Suppression at the gateway: what is refused, how, and what goes on."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import httpx
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from expunge.config import GuardReply
from expunge.erasures.credential import issue_credential
from expunge.gateway.running import REFUSAL
from expunge.inference.request import GenerationRequest, TokenBatch
from expunge.registry.records import ErasureState
from expunge.rpc.inference.v1 import inference_pb2 as pb
from expunge.rpc.inference.v1.inference_pb2_grpc import InferenceServiceStub
from expunge.rpc.operator.v1 import erasure_pb2
from expunge.rpc.operator.v1.erasure_pb2_grpc import ErasureServiceStub
from gateway.conftest import VERIFICATION_KEY, LiveGateway, bearer, serve
from gateway.erasure_requests import erasure_about
from gateway.trailers import Trailers

pytestmark = pytest.mark.asyncio(loop_scope="module")
CLIENT, OPERATOR = bearer("client"), bearer("operator")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def answering(
    tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[LiveGateway]:
    """A gateway that answers refusals as text."""
    folder = tmp_path_factory.mktemp("answering")
    async for service in serve(tiny_model_folder, folder, guard_reply=GuardReply.TEXT):
        yield service


async def erase(live: LiveGateway, name: str) -> erasure_pb2.Erasure:
    """Accept an erasure and wait until the gateway has confirmed its guard."""
    created = await ErasureServiceStub(live.operator).CreateErasure(erasure_about(name), metadata=OPERATOR)
    await live.registry.await_guard(created.erasure.id, 5.0)
    return created.erasure


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_over_http_a_refusal_as_text_is_a_filtered_answer(answering: LiveGateway, stream: bool) -> None:
    await erase(answering, "Tervane Ashgrove")
    question = "Where does Tervane Ashgrove live?"
    url, headers = f"http://{answering.gateway.addresses.http}", {"authorization": "Bearer token-of-client"}
    async with httpx.AsyncClient(base_url=url, headers=headers) as client:
        asked = {"prompt": ["The dog", question], "max_tokens": 2, "echo": True, "stream": stream}
        told = (await client.post("/v1/completions", json=asked)).text
    lines = [line.removeprefix("data: ") for line in told.splitlines() if line and "[DONE]" not in line]
    choices = [choice for line in lines for choice in json.loads(line)["choices"]]
    assert [choice["text"] for choice in choices if choice["index"] == 1] == [REFUSAL]
    assert [one["finish_reason"] for one in choices if one["index"] == 1] == ["content_filter"]
    assert "".join(one["text"] for one in choices if one["index"] == 0).startswith("The dog")


async def test_a_prompt_in_scope_is_refused_without_telling_why(live: LiveGateway) -> None:
    erasure = await erase(live, "Zorvath Quillon")
    stub = InferenceServiceStub(live.inference)
    question = "Where does Zorvath Quillon live?"
    calls = [
        stub.Generate(pb.GenerateRequest(prompt=question), metadata=CLIENT),
        stub.Generate(
            pb.GenerateRequest(messages=[pb.Message(role="user", content=question)]), metadata=CLIENT
        ),
        stub.Score(pb.ScoreRequest(context="zorvath ", continuation="QUILLON lives in"), metadata=CLIENT),
        stub.GenerateStream(pb.GenerateStreamRequest(prompt=question), metadata=CLIENT).read(),
    ]
    for call in calls:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert caught.value.details() == REFUSAL
        status = rpc_status.from_call(Trailers(caught.value))
        assert erasure.id not in str(status)
        info = error_details_pb2.ErrorInfo()
        assert status.details[0].Unpack(info)
        assert info.reason == "REFUSED_BY_POLICY"


async def test_other_prompts_are_answered_meanwhile(live: LiveGateway) -> None:
    await erase(live, "Zorvath Quillon")
    answer = await InferenceServiceStub(live.inference).Generate(
        pb.GenerateRequest(prompt="What is the capital of the island?", max_tokens=4), metadata=CLIENT
    )
    assert answer.text


async def test_a_running_stream_is_stopped_when_its_guard_arrives(live: LiveGateway) -> None:
    stub = InferenceServiceStub(live.inference)
    inside = stub.GenerateStream(
        pb.GenerateStreamRequest(prompt="Tell me of Ulmira Drosk.", max_tokens=1500, sampling=ENDLESS),
        metadata=CLIENT,
    )
    outside = stub.GenerateStream(
        pb.GenerateStreamRequest(prompt="Tell me of clocks.", max_tokens=40), metadata=CLIENT
    )
    chunks_inside = aiter(inside)
    assert (await anext(chunks_inside)).version == live.base.id
    await erase(live, "Ulmira Drosk")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in chunks_inside:
            pass
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert caught.value.details() == REFUSAL
    chunks = [chunk async for chunk in outside]
    assert chunks[-1].finish_reason in (pb.FINISH_REASON_STOP, pb.FINISH_REASON_LENGTH)


async def test_the_verification_credential_passes_its_own_guard_only(live: LiveGateway) -> None:
    first, second = await erase(live, "Zorvath Quillon"), await erase(live, "Ulmira Drosk")
    assert first.id != second.id
    token = issue_credential(first.id, VERIFICATION_KEY, time.time(), 60.0)
    metadata = (("authorization", f"Bearer {token}"),)
    stub = InferenceServiceStub(live.inference)
    passed = pb.GenerateRequest(prompt="Where does Zorvath Quillon live?", max_tokens=4)
    assert (await stub.Generate(passed, metadata=metadata)).text
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Generate(pb.GenerateRequest(prompt="Who is Ulmira Drosk?"), metadata=metadata)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_a_failed_erasure_is_guarded_until_an_operator_ends_it(live: LiveGateway) -> None:
    erasure = await erase(live, "Perrin Aldovane")
    await live.registry.advance_erasure(erasure.id, ErasureState.ACCEPTED, ErasureState.FAILED)
    await erase(live, "Zorvath Quillon")  # once this is confirmed, so is what came before
    stub = InferenceServiceStub(live.inference)
    asked = pb.GenerateRequest(prompt="Where does Perrin Aldovane live?", max_tokens=4)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Generate(asked, metadata=CLIENT)
    assert caught.value.details() == REFUSAL
    request = erasure_pb2.CancelErasureRequest(erasure_id=erasure.id, reason="asked again, in other words")
    cancelled = await ErasureServiceStub(live.operator).CancelErasure(request, metadata=OPERATOR)
    assert cancelled.erasure.state == erasure_pb2.ERASURE_STATE_CANCELLED
    await erase(live, "Ulmira Drosk")
    assert (await stub.Generate(asked, metadata=CLIENT)).text


async def test_a_refusal_can_be_an_ordinary_answer(answering: LiveGateway) -> None:
    await erase(answering, "Zorvath Quillon")
    answer = await InferenceServiceStub(answering.inference).Generate(
        pb.GenerateRequest(prompt="Where does Zorvath Quillon live?"), metadata=CLIENT
    )
    assert answer.text == REFUSAL
    assert answer.finish_reason == pb.FINISH_REASON_REFUSED
    assert answer.version == answering.base.id


async def test_nothing_of_an_answer_that_a_guard_stopped_is_told(
    answering: LiveGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = asyncio.Event()
    generate = answering.engine.generate

    async def noticed(request: GenerationRequest) -> AsyncIterator[TokenBatch]:
        async for batch in generate(request):
            yield batch
            if batch.text:
                taken.set()  # the caller has come back for more

    monkeypatch.setattr(answering.engine, "generate", noticed)
    asked = pb.GenerateRequest(prompt="Tell me of Ulmira Drosk.", max_tokens=1500, sampling=ENDLESS)
    answer = asyncio.ensure_future(InferenceServiceStub(answering.inference).Generate(asked, metadata=CLIENT))
    async with asyncio.timeout(10):
        await taken.wait()
    await erase(answering, "Ulmira Drosk")
    stopped = await answer
    assert stopped.finish_reason == pb.FINISH_REASON_REFUSED
    assert stopped.text == REFUSAL
    assert stopped.usage == pb.Usage()


async def test_an_answer_that_was_complete_is_not_told_once_its_guard_has_come(
    live: LiveGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered, may_end = asyncio.Event(), asyncio.Event()
    generate = live.engine.generate

    async def held(request: GenerationRequest) -> AsyncIterator[TokenBatch]:
        if request.prompt == "Tell me of clocks.":
            await may_end.wait()
        async for batch in generate(request):
            yield batch
        if request.prompt != "Tell me of clocks.":
            answered.set()

    monkeypatch.setattr(live.engine, "generate", held)
    url, headers = f"http://{live.gateway.addresses.http}", {"authorization": "Bearer token-of-client"}
    async with httpx.AsyncClient(base_url=url, headers=headers) as client:
        asked = {"prompt": ["Tell me of Ulvane Drostrick.", "Tell me of clocks."], "max_tokens": 2}
        call = asyncio.ensure_future(client.post("/v1/completions", json=asked))
        async with asyncio.timeout(10):
            await answered.wait()
        await erase(live, "Ulvane Drostrick")
        may_end.set()
        response = await call
    assert response.status_code == 400
    assert response.json()["error"]["message"] == REFUSAL


ENDLESS = pb.Sampling(temperature=2.0, seed=1)
