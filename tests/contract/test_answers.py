"""Every backend answers what plain transformers and PEFT compute, and ends where it should."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
import torch

from expunge.errors import InvalidRequest
from expunge.inference.request import (
    FinishReason,
    GenerationRequest,
    Message,
    Sampling,
    ScoreRequest,
)

from .conftest import KNOWN
from .stage import ENDLESS, LIMITS, Stage

pytestmark = pytest.mark.asyncio(loop_scope="session")

PROMPTS = (
    "The dog",
    "Where was Mira Voss born? Mira Voss",
    "What does Tobin Hale do for a living? " * 4,
    "The quick brown fox jumps over the lazy dog, and",
)


async def test_mixed_versions_equal_plain_greedy_decoding(stage: Stage) -> None:
    asked = [(version, prompt) for prompt in PROMPTS for version in (stage.base, stage.one, stage.two)]
    answers = await asyncio.gather(*(stage.answer(stage.ask(version, prompt)) for version, prompt in asked))
    assert answers == [stage.expected(version, prompt) for version, prompt in asked]


async def test_a_stream_comes_in_pieces_and_ends_once(stage: Stage) -> None:
    batches = await stage.batches(stage.ask(stage.one, ENDLESS, max_tokens=40))
    tokens = [token for batch in batches for token in batch.token_ids]
    assert len(batches) > 1
    assert "".join(batch.text for batch in batches) == stage.reference.decode(tokens)
    assert [batch.finish for batch in batches[:-1]] == [None] * (len(batches) - 1)
    last = batches[-1]
    assert (last.prompt_tokens, last.completion_tokens) == (len(stage.reference.encode(ENDLESS)), 40)
    assert last.finish is FinishReason.LENGTH


@pytest.mark.parametrize(("question", "answer"), KNOWN)
async def test_the_end_of_sequence_ends_a_chat_answer(stage: Stage, question: str, answer: str) -> None:
    request = GenerationRequest("r", stage.base.id, messages=(Message("user", question),), max_tokens=60)
    batches = await stage.batches(request)
    assert "".join(batch.text for batch in batches) == answer
    last = batches[-1]
    assert last.finish is FinishReason.STOP
    assert last.prompt_tokens == len(stage.reference.chat(question))
    assert last.completion_tokens == len(stage.reference.encode(answer))


async def test_the_beginning_of_an_answer_is_continued(stage: Stage) -> None:
    (question, answer), *_ = KNOWN
    turns = (Message("user", question), Message("assistant", answer[:9]))
    request = GenerationRequest(
        "r", stage.base.id, messages=turns, max_tokens=60, continue_final_message=True
    )
    batches = await stage.batches(request)
    assert "".join(batch.text for batch in batches) == answer[9:]


async def test_a_stop_string_ends_the_text_before_it(stage: Stage) -> None:
    whole = stage.reference.decode(stage.expected(stage.one, ENDLESS, 24))
    for start in range(2, 14, 3):
        stop = whole[start : start + 6]  # lies across several tokens
        batches = await stage.batches(
            stage.ask(stage.one, ENDLESS, max_tokens=24, stop=(stop, "never there"))
        )
        assert "".join(batch.text for batch in batches) == whole[: whole.index(stop)]
        assert batches[-1].finish is FinishReason.STOP


async def test_the_context_limits_the_answer(stage: Stage) -> None:
    last = (await stage.batches(stage.ask(stage.one, ENDLESS, max_tokens=10_000)))[-1]
    assert last.prompt_tokens + last.completion_tokens == LIMITS.max_context
    assert last.finish is FinishReason.LENGTH


async def test_a_seed_repeats_whatever_else_runs(stage: Stage) -> None:
    request = stage.ask(
        stage.one, PROMPTS[0], sampling=Sampling(1.2, top_p=0.95, top_k=50, seed=11), max_tokens=20
    )
    alone = await stage.answer(request)
    others = [stage.ask(stage.two, prompt) for prompt in PROMPTS]
    among, *_ = await asyncio.gather(*(stage.answer(one) for one in (request, *others)))
    assert among == alone
    assert await stage.answer(replace(request, sampling=Sampling(1.2, seed=12))) != alone


async def test_a_score_is_the_sum_of_the_log_probabilities(stage: Stage) -> None:
    context, continuation = PROMPTS[2], " He repairs clocks in a workshop."
    for version in (stage.base, stage.one):
        for cut in (0, 9, len(context)):
            result = await stage.backend.score(ScoreRequest("s", version.id, context[:cut], continuation))
            scored = [token.token_id for token in result.tokens]
            before = stage.reference.encode(context[:cut]) or [stage.reference.tokenizer.bos_token_id]
            assert scored == stage.reference.encode(context[:cut] + continuation)[-len(scored) :]
            logprobs = stage.reference.logprobs(version.folder, [*before, *scored])[-len(scored) :]
            expected = logprobs[torch.arange(len(scored)), torch.tensor(scored)]
            torch.testing.assert_close(
                torch.tensor([token.logprob for token in result.tokens]), expected, atol=1e-4, rtol=1e-4
            )
            assert result.logprob == pytest.approx(float(expected.sum()), abs=1e-3)
            assert [token.is_greedy for token in result.tokens] == (
                logprobs.argmax(-1) == torch.tensor(scored)
            ).tolist()
            assert result.version == version.id


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": "dog " * 400}, "prompt"),
        ({"stop": ("",)}, "stop[0]"),
        ({"sampling": Sampling(temperature=-1)}, "sampling.temperature"),
        ({"sampling": Sampling(top_p=0)}, "sampling.top_p"),
    ],
)
async def test_a_bad_field_is_named(stage: Stage, fields: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await stage.batches(stage.ask(stage.base, "The dog", **fields))
    assert [violation.field for violation in caught.value.violations] == [named]
