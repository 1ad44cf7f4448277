"""What every backend does with more than it can take, and with requests that nobody waits for any more."""

from __future__ import annotations

import asyncio

import pytest

from expunge.errors import DeadlineExceeded, Overloaded
from expunge.inference.request import FinishReason, Priority, ScoreRequest

from .stage import ENDLESS, LIMITS, Stage, first_batch

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_what_does_not_fit_the_queue_is_refused_and_the_rest_is_answered(stage: Stage) -> None:
    asked = 3 * (LIMITS.max_rows + LIMITS.max_queue)
    results = await asyncio.gather(
        *(stage.answer(stage.ask(stage.one, ENDLESS, max_tokens=100)) for _ in range(asked)),
        return_exceptions=True,
    )
    refused = [result for result in results if isinstance(result, BaseException)]
    assert all(isinstance(one, Overloaded) and one.retry_after_s for one in refused)
    assert 0 < len(refused) <= asked - LIMITS.max_rows - LIMITS.max_queue
    expected = stage.expected(stage.one, ENDLESS, 100)
    assert all(result == expected for result in results if not isinstance(result, BaseException))


async def test_a_caller_that_leaves_frees_its_version(stage: Stage) -> None:
    streams = [stage.backend.generate(stage.ask(stage.one, ENDLESS, max_tokens=200)) for _ in range(6)]
    await first_batch(streams[0])
    others = [asyncio.create_task(anext(stream)) for stream in streams[1:]]
    await asyncio.wait(others, timeout=0)
    for other in others:
        other.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    for stream in streams:
        await stream.aclose()
    assert await stage.backend.unload_version(stage.one.id)  # waits for the last use
    assert stage.backend.stats().waiting == 0


async def test_a_deadline_ends_a_running_answer(stage: Stage) -> None:
    running = stage.backend.generate(stage.ask(stage.one, ENDLESS, max_tokens=200, deadline=1000.0))
    tokens = list((await first_batch(running)).token_ids)
    stage.clock.now = 2000.0
    batches = [batch async for batch in running]
    tokens += [token for batch in batches for token in batch.token_ids]
    assert batches[-1].finish is FinishReason.DEADLINE
    assert batches[-1].completion_tokens == len(tokens) < 200
    assert tokens == stage.expected(stage.one, ENDLESS, len(tokens))
    assert await stage.backend.unload_version(stage.one.id)


async def test_nothing_is_generated_or_scored_past_the_deadline(stage: Stage) -> None:
    stage.clock.now = 2.0
    (batch,) = await stage.batches(stage.ask(stage.one, "The dog", deadline=1.0))
    assert (batch.finish, batch.token_ids, batch.text) == (FinishReason.DEADLINE, (), "")
    with pytest.raises(DeadlineExceeded):
        await stage.backend.score(ScoreRequest("s", stage.one.id, "The", " dog", deadline=1.0))


async def test_both_priorities_are_answered(stage: Stage) -> None:
    asked = [
        stage.ask(version, "She studied", priority=priority)
        for version in (stage.one, stage.two)
        for priority in Priority
    ]
    answers = await asyncio.gather(*(stage.answer(request) for request in asked))
    wanted = [stage.expected(version, "She studied") for version in (stage.one, stage.two)]
    assert answers == [wanted[0], wanted[0], wanted[1], wanted[1]]


async def test_tokens_are_counted(stage: Stage) -> None:
    before = stage.backend.stats()
    await stage.answer(stage.ask(stage.two, "Once more", max_tokens=5))
    after = stage.backend.stats()
    prompt = len(stage.reference.encode("Once more"))
    counted = after.prompt_tokens + after.cached_prompt_tokens
    assert counted - before.prompt_tokens - before.cached_prompt_tokens == prompt
    assert after.generated_tokens - before.generated_tokens == 5
    assert after.staged == 3
