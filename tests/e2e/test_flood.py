"""One client floods the service; another is admitted, and answered before the flood has drained."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from functools import partial

import pytest

from deployed import Deployed
from expunge.benchmarks.serving.prompts import end_tokens
from expunge.client import NO_RETRIES, AsyncClient, Overloaded, Sampling

from .conftest import FLOOD
from .test_bad_input import await_true, gateway_metric

TOKENS = 1200  # of each of the flood's answers
ROUNDS = 3


async def test_another_client_is_answered_while_a_flood_waits_and_is_refused(service: Deployed) -> None:
    address = service.service.addresses.inference
    endless = Sampling(logit_bias=dict.fromkeys(end_tokens(service.service.base.folder), -100.0))
    begun = 0

    async def flooding(client: AsyncClient, number: int) -> None:
        nonlocal begun
        chunks = client.stream(prompt=f"The quick {number}", sampling=endless, max_tokens=TOKENS)
        async with aclosing(chunks):
            await anext(chunks)
            begun += 1
            async for _ in chunks:
                pass

    async with (
        AsyncClient(address, "token-of-flood", retry=NO_RETRIES) as flood,
        AsyncClient(address, "token-of-other", retry=NO_RETRIES) as other,
    ):
        streams = [asyncio.create_task(flooding(flood, number)) for number in range(FLOOD)]
        held = 'expunge_client_answers{client="flood"}'
        full = partial(await_true, lambda: gateway_metric(service, held) == FLOOD, "the flood is admitted")
        await asyncio.to_thread(full)
        for _ in range(ROUNDS):
            with pytest.raises(Overloaded) as refused:
                await flood.generate(prompt="The quick", max_tokens=1)
            assert refused.value.reason == "CONCURRENCY_QUOTA"
            assert refused.value.retry_after_s == 1.0
            answer = await other.generate(prompt="Who", sampling=endless, max_tokens=8)
            assert answer.usage.completion_tokens == 8
            assert begun < FLOOD, "some of the flood wait for their first token still"
            assert not any(stream.done() for stream in streams), "and none has ended"
        for stream in streams:
            stream.cancel()
        ends = await asyncio.gather(*streams, return_exceptions=True)
    assert {type(end) for end in ends} == {asyncio.CancelledError}
