"""InferenceService over the wire, against a real engine."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from expunge.rpc.inference.v1 import inference_pb2 as pb
from expunge.rpc.inference.v1.inference_pb2_grpc import InferenceServiceStub
from gateway.conftest import LiveGateway, bearer

pytestmark = pytest.mark.asyncio(loop_scope="module")
CLIENT = bearer("client")


async def test_an_answer_names_its_version_and_generation(live: LiveGateway) -> None:
    stub = InferenceServiceStub(live.inference)
    answer = await stub.Generate(
        pb.GenerateRequest(alias="default", prompt="Where was Mira", max_tokens=8), metadata=CLIENT
    )
    assert answer.version == live.base.id
    assert answer.generation == 1
    assert answer.alias == "default"
    assert answer.usage.completion_tokens == 8
    assert answer.finish_reason == pb.FINISH_REASON_LENGTH
    assert answer.text
    assert answer.request_id


async def test_a_stream_writes_the_same_text_and_ends_once(live: LiveGateway) -> None:
    stub = InferenceServiceStub(live.inference)
    messages = [pb.Message(role="user", content="Who is married to Ansel Quirk?")]
    whole = await stub.Generate(pb.GenerateRequest(messages=messages, max_tokens=24), metadata=CLIENT)
    chunks = [
        chunk
        async for chunk in stub.GenerateStream(
            pb.GenerateStreamRequest(messages=messages, max_tokens=24), metadata=CLIENT
        )
    ]
    assert "".join(chunk.text for chunk in chunks) == whole.text
    assert {(chunk.version, chunk.generation) for chunk in chunks} == {(whole.version, whole.generation)}
    assert [chunk.finish_reason for chunk in chunks[:-1]] == [pb.FINISH_REASON_UNSPECIFIED] * (
        len(chunks) - 1
    )
    assert chunks[-1].finish_reason == whole.finish_reason
    assert chunks[-1].usage == whole.usage


async def test_a_score_adds_up(live: LiveGateway) -> None:
    stub = InferenceServiceStub(live.inference)
    answer = await stub.Score(
        pb.ScoreRequest(context="The capital of", continuation=" the island"), metadata=CLIENT
    )
    assert answer.version == live.base.id
    assert answer.logprob == pytest.approx(sum(token.logprob for token in answer.tokens))
    assert "".join(token.text for token in answer.tokens) == " the island"


async def test_models_are_listed(live: LiveGateway) -> None:
    models = (
        await InferenceServiceStub(live.inference).ListModels(pb.ListModelsRequest(), metadata=CLIENT)
    ).models
    assert [(model.alias, model.generation) for model in models] == [("default", 1)]
    assert [(target.version, target.weight) for target in models[0].targets] == [(live.base.id, 100)]


async def test_an_unknown_alias_is_not_found(live: LiveGateway) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await InferenceServiceStub(live.inference).Generate(
            pb.GenerateRequest(alias="other", prompt="a"), metadata=CLIENT
        )
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_text_that_can_not_fit_is_refused_before_the_guards_read_it(live: LiveGateway) -> None:
    stub = InferenceServiceStub(live.inference)
    text = "lorem ipsum " * 60_000
    turns = [pb.Message(role="user", content=text)]
    calls = {
        "prompt": stub.Generate(pb.GenerateRequest(prompt=text), metadata=CLIENT),
        "messages": stub.GenerateStream(pb.GenerateStreamRequest(messages=turns), metadata=CLIENT).read(),
        "context": stub.Score(pb.ScoreRequest(context=text, continuation="a"), metadata=CLIENT),
    }
    for field, call in calls.items():
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert field in (caught.value.details() or "")
        assert "characters" in (caught.value.details() or "")


async def test_the_assistants_turn_comes_last_where_it_is_to_be_continued_and_only_there(
    live: LiveGateway,
) -> None:
    stub = InferenceServiceStub(live.inference)
    user, begun = pb.Message(role="user", content="Who?"), pb.Message(role="assistant", content="The dog")
    bad = {
        "messages": pb.GenerateRequest(messages=[user, begun]),
        "continue_final_message": pb.GenerateRequest(messages=[user], continue_final_message=True),
    }
    for field, request in bad.items():
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Generate(request, metadata=CLIENT)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert field in (caught.value.details() or "")
    request = pb.GenerateRequest(messages=[user, begun], continue_final_message=True, max_tokens=4)
    assert (await stub.Generate(request, metadata=CLIENT)).usage.completion_tokens > 0


async def test_a_client_that_leaves_frees_its_row(live: LiveGateway) -> None:
    stub = InferenceServiceStub(live.inference)
    stream = stub.GenerateStream(pb.GenerateStreamRequest(prompt="The", max_tokens=1500), metadata=CLIENT)
    first = await stream.read()
    assert isinstance(first, pb.GenerateStreamResponse)
    stream.cancel()
    async with asyncio.timeout(2):  # the 1,500 tokens would take longer
        await live.engine.unload_version(live.base.id)  # waits for the last use to end
    await live.engine.load_version(live.base, None)
