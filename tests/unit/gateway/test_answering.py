"""Several answers at once: their order, their end, and their being closed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import grpc
import pytest
from tokenizers import Tokenizer

from expunge.errors import Unavailable
from expunge.gateway.answering import interleaved
from expunge.gateway.base_model import tokenizer_key
from expunge.models.manifest import digest_of_base
from expunge.rpc.inference.v1 import inference_pb2 as pb
from expunge.rpc.inference.v1.inference_pb2_grpc import InferenceServiceStub
from expunge.rpc.operator.v1.erasure_pb2_grpc import ErasureServiceStub
from gateway.conftest import LiveGateway, bearer
from gateway.erasure_requests import erasure_about

module_loop = pytest.mark.asyncio(loop_scope="module")
CLIENT, OPERATOR = bearer("client"), bearer("operator")


class Source:
    """Gives its items one by one, and knows when it was closed."""

    def __init__(self, *items: str, error: Exception | None = None) -> None:
        self._items, self._error = items, error
        self.is_closed = False

    async def give(self) -> AsyncGenerator[str, None]:
        try:
            for item in self._items:
                yield item
            if self._error:
                raise self._error
            await asyncio.get_running_loop().create_future() if not self._items else None
        finally:
            self.is_closed = True


async def test_every_item_comes_once_and_in_its_sources_order() -> None:
    found = [item async for item in interleaved([Source("a", "b", "c").give(), Source("d", "e").give()])]
    assert [item for index, item in found if index == 0] == ["a", "b", "c"]
    assert [item for index, item in found if index == 1] == ["d", "e"]


@pytest.mark.parametrize("others", [0, 2])
async def test_the_first_error_of_any_closes_all(others: int) -> None:
    waiting = [Source() for _ in range(others)]
    failing = Source("a", error=Unavailable("gone"))
    with pytest.raises(Unavailable):
        async for _ in interleaved([source.give() for source in (*waiting, failing)]):
            pass
    assert all(source.is_closed for source in (*waiting, failing))


async def test_who_stops_listening_closes_all() -> None:
    sources = [Source("a", "b"), Source()]
    async with aclosing(interleaved([source.give() for source in sources])) as items:
        assert await anext(items) == (0, "a")
    assert all(source.is_closed for source in sources)


@module_loop
async def test_several_greedy_answers_are_equal_and_each_ends_once(live: LiveGateway) -> None:
    stub = InferenceServiceStub(live.inference)
    request = pb.GenerateRequest(prompt="Where was Mira", max_tokens=6, n=3)
    whole = await stub.Generate(request, metadata=CLIENT)
    assert [choice.text for choice in whole.more_choices] == [whole.text] * 2
    assert whole.usage.completion_tokens == 18
    stream = stub.GenerateStream(
        pb.GenerateStreamRequest(prompt="Where was Mira", max_tokens=6, n=3), metadata=CLIENT
    )
    chunks = [chunk async for chunk in stream]
    ends = [chunk.index for chunk in chunks if chunk.HasField("usage")]
    assert sorted(ends) == [0, 1, 2]
    for index in range(3):
        assert "".join(chunk.text for chunk in chunks if chunk.index == index) == whole.text


@module_loop
async def test_a_prompt_of_token_ids_is_read_by_the_guards_as_text(live: LiveGateway) -> None:
    created = await ErasureServiceStub(live.operator).CreateErasure(
        erasure_about("Nelvane Orrick"), metadata=OPERATOR
    )
    await live.registry.await_guard(created.erasure.id, 5.0)
    key = tokenizer_key(digest_of_base(live.base.id))
    tokenizer = Tokenizer.from_buffer(live.blobs.get_bytes(key))
    stub = InferenceServiceStub(live.inference)
    for text in ("Where does Nelvane Orrick live?", "Where does Nel<|im_end|>vane Or<|im_start|>rick live?"):
        ids = tokenizer.encode(text).ids
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Generate(pb.GenerateRequest(prompt_tokens=ids), metadata=CLIENT)
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION, text


@module_loop
async def test_a_token_id_that_stands_for_nothing_is_named(live: LiveGateway) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await InferenceServiceStub(live.inference).Generate(
            pb.GenerateRequest(prompt_tokens=[1, 2, 99_999]), metadata=CLIENT
        )
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "prompt_tokens[2]" in (caught.value.details() or "")
