"""Log-probabilities of prompt and answer are those of a plain forward pass, however the prompt was run."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from expunge.errors import InvalidRequest
from expunge.inference.engine import Engine
from expunge.inference.local import LocalModel
from expunge.inference.request import (
    FinishReason,
    GenerationRequest,
    Sampling,
    ScoreRequest,
    TokenBatch,
    TokenLogprob,
    merge,
)
from expunge.registry.records import VersionRecord

from .engine_calls import LIMITS, ask, collect

SHORT = "Where was Mira Voss born?"
LONG = "What does Tobin Hale do for a living? " * 9


async def whole(engine: Engine, request: GenerationRequest) -> TokenBatch:
    """The whole answer, with an entry for each token in the very batch that carries it."""
    batches = await collect(engine, request)
    for batch in batches:
        assert tuple(entry.token_id for entry in batch.logprobs) == batch.token_ids
    assert not any(batch.prompt_logprobs for batch in batches[1:])
    return merge(batches)


def plain_logprobs(model: PreTrainedModel, tokens: Sequence[int]) -> Tensor:
    """After each of `tokens`, [tokens, vocabulary]."""
    with torch.inference_mode():
        return model(torch.tensor([list(tokens)])).logits[0].log_softmax(-1)


def assert_equal(entries: Sequence[TokenLogprob], expected: Tensor, count: int) -> None:
    """`entries` tell what `expected` [entries, vocabulary] has for their tokens."""
    assert len(entries) == len(expected)
    for entry, logprobs in zip(entries, expected, strict=True):
        assert entry.logprob == pytest.approx(float(logprobs[entry.token_id]), abs=1e-3)
        told = [logprob for _, _, logprob in entry.likeliest]
        assert told == pytest.approx(logprobs.topk(count).values.tolist(), abs=1e-3)


@pytest.mark.parametrize("count", [0, 1, 7])
@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(1.3, top_k=30, seed=3, repetition_penalty=1.5, logit_bias=((8, 20.0), (9, -100.0))),
    ],
)
async def test_an_answer_is_told_of_as_the_model_alone_has_it(
    engine: Engine, versions: list[VersionRecord], plain: PreTrainedModel, sampling: Sampling, count: int
) -> None:
    request = ask(SHORT, versions[0].id, logprobs=count, sampling=sampling)
    with_them, without = await asyncio.gather(
        whole(engine, request), collect(engine, ask(SHORT, versions[0].id, sampling=sampling))
    )
    assert with_them.token_ids == merge(without).token_ids
    assert not any(batch.logprobs for batch in without)
    prompt = engine._codec.encode(SHORT)
    expected = plain_logprobs(plain, [*prompt, *with_them.token_ids])[len(prompt) - 1 : -1]
    assert_equal(with_them.logprobs, expected, count)
    assert with_them.prompt_logprobs == ()


@pytest.mark.parametrize("text", [SHORT, LONG, "T"])
@pytest.mark.parametrize("max_tokens", [0, 1, 6])
async def test_a_prompt_is_told_of(
    engine: Engine, versions: list[VersionRecord], plain: PreTrainedModel, text: str, max_tokens: int
) -> None:
    version, prompt = versions[0].id, engine._codec.encode(text)
    fields: dict[str, Any] = {"max_tokens": max_tokens, "logprobs": 3, "prompt_logprobs": True}
    fresh = await whole(engine, ask(text, version, **fields))
    known = await whole(engine, ask(text, version, **fields))  # whatever the prefix cache holds now
    for answer in (fresh, known):
        first, *rest = answer.prompt_logprobs
        assert (first.token_id, first.logprob, first.likeliest) == (prompt[0], None, ())
        assert [entry.token_id for entry in rest] == prompt[1:]
        tokens = [*prompt, *answer.token_ids]
        expected = plain_logprobs(plain, tokens)
        assert_equal((*rest, *answer.logprobs), expected[: len(tokens) - 1], 3)
        assert len(answer.token_ids) == answer.completion_tokens == max_tokens
        assert answer.prompt_tokens == len(prompt)
        assert answer.finish is FinishReason.LENGTH
    assert len(engine._codec.encode(LONG)) > LIMITS.idle_prefill_tokens


async def test_prompts_run_together_are_told_of_each(
    engine: Engine, versions: list[VersionRecord], alone: LocalModel
) -> None:
    texts = [SHORT, SHORT[:14], LONG, LONG[:60], "She studied", SHORT]
    fields: dict[str, Any] = {"max_tokens": 2, "logprobs": 0, "prompt_logprobs": True}
    crowd = [ask(text, record.id, max_tokens=20) for text in texts[:3] for record in versions]
    requests = [ask(text, record.id, **fields) for text in texts for record in versions[1:]]
    answers = await asyncio.gather(
        *(whole(engine, request) for request in requests), *(collect(engine, other) for other in crowd)
    )
    for request, answer in zip(requests, answers, strict=False):
        assert isinstance(answer, TokenBatch)
        prompt = alone.encode(request.prompt or "")
        (forced,) = alone.teacher_forced([(prompt[:1], prompt[1:])], request.version)
        told = [entry.logprob for entry in answer.prompt_logprobs[1:]]
        assert told == pytest.approx(forced.logprobs.tolist(), abs=1e-3)


async def test_a_prompt_told_of_agrees_with_its_score(engine: Engine, versions: list[VersionRecord]) -> None:
    version = versions[1].id
    scored = await engine.score(ScoreRequest("s", version, SHORT, " Mira Voss was born in Port Ellery."))
    text = SHORT + " Mira Voss was born in Port Ellery."
    told = await whole(engine, ask(text, version, max_tokens=0, logprobs=1, prompt_logprobs=True))
    tail = told.prompt_logprobs[-len(scored.tokens) :]
    assert [(entry.token_id, entry.text) for entry in tail] == [
        (token.token_id, token.text) for token in scored.tokens
    ]
    assert [entry.logprob for entry in tail] == pytest.approx(
        [one.logprob for one in scored.tokens], abs=1e-3
    )
    assert [entry.likeliest[0][0] == entry.token_id for entry in tail] == [
        token.is_greedy for token in scored.tokens
    ]


async def test_a_prompt_told_of_feeds_the_cache_but_takes_nothing_from_it(
    engine: Engine, versions: list[VersionRecord]
) -> None:
    version = versions[1].id
    await collect(engine, ask(LONG, version, max_tokens=1))
    before = engine.stats()
    await whole(engine, ask(LONG, version, max_tokens=0, logprobs=0, prompt_logprobs=True))
    after = engine.stats()
    assert after.prompt_tokens - before.prompt_tokens == len(engine._codec.encode(LONG))
    assert after.cached_prompt_tokens == before.cached_prompt_tokens
    assert after.generated_tokens == before.generated_tokens


async def test_text_held_back_does_not_hold_back_logprobs(
    engine: Engine, versions: list[VersionRecord]
) -> None:
    plain = merge(await collect(engine, ask(SHORT, versions[1].id, max_tokens=24)))
    stop = plain.text[8:14]  # lies across several tokens
    held = await whole(engine, ask(SHORT, versions[1].id, max_tokens=24, stop=(stop,), logprobs=2))
    assert held.text == plain.text[: plain.text.index(stop)]
    assert held.finish is FinishReason.STOP
    assert held.token_ids == plain.token_ids[: len(held.token_ids)]
    assert len(held.logprobs) == len(held.token_ids) == held.completion_tokens


async def test_a_prompt_as_long_as_the_context_can_be_told_of(
    engine: Engine, versions: list[VersionRecord]
) -> None:
    prompt = tuple(range(LIMITS.max_context))
    fields: dict[str, Any] = {"prompt": None, "prompt_tokens": prompt, "logprobs": 0, "prompt_logprobs": True}
    told = await whole(engine, ask("", versions[0].id, max_tokens=0, **fields))
    assert len(told.prompt_logprobs) == LIMITS.max_context
    with pytest.raises(InvalidRequest):
        await whole(engine, ask("", versions[0].id, max_tokens=1, **fields))
