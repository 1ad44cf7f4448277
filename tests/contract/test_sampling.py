"""Every backend honours the sampling options, and tells log-probabilities as the model alone has them."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from dataclasses import replace

import pytest

from expunge.inference.request import FinishReason, Sampling, TokenLogprob

from .stage import ENDLESS, LIMITS, Stage

pytestmark = pytest.mark.asyncio(loop_scope="session")

NEAR = 1e-4


def penalised(stage: Stage, sampling: Sampling, new_tokens: int) -> list[int]:
    """Greedy tokens of version one after ENDLESS: bias first, then penalties."""
    prompt, answer = stage.reference.encode(ENDLESS), list[int]()
    while len(answer) < new_tokens:
        scores = stage.reference.logits(stage.one.folder, [*prompt, *answer])
        for token, bias in sampling.logit_bias:
            scores[token] += bias
        for token in {*prompt, *answer}:
            factor = sampling.repetition_penalty
            scores[token] = scores[token] / factor if scores[token] > 0 else scores[token] * factor
        for token, times in Counter(answer).items():
            scores[token] -= times * sampling.frequency_penalty + sampling.presence_penalty
        best = int(scores.argmax())
        if best == stage.reference.tokenizer.eos_token_id:
            break
        answer.append(best)
    return answer


async def told(stage: Stage, **fields: object) -> tuple[list[TokenLogprob], list[TokenLogprob]]:
    """What is told of the prompt and of the answer."""
    batches = await stage.batches(stage.ask(stage.one, ENDLESS, **fields))
    for batch in batches:
        assert [one.token_id for one in batch.logprobs] in ([], list(batch.token_ids))
    return (
        [one for batch in batches for one in batch.prompt_logprobs],
        [one for batch in batches for one in batch.logprobs],
    )


async def test_log_probabilities_are_those_before_penalties_and_bias(stage: Stage) -> None:
    changed = Sampling(repetition_penalty=1.5, frequency_penalty=1.0, logit_bias=((7, 5.0),))
    for sampling in (Sampling(), changed, Sampling(1.3, top_k=5, seed=3)):
        prompt, answer = await told(stage, logprobs=3, prompt_logprobs=True, sampling=sampling)
        whole = [one.token_id for one in (*prompt, *answer)]
        assert whole[: len(prompt)] == stage.reference.encode(ENDLESS)
        assert (prompt[0].logprob, prompt[0].likeliest) == (None, ())
        logprobs = stage.reference.logprobs(stage.one.folder, whole)
        for one, row in zip([*prompt[1:], *answer], logprobs, strict=True):
            assert one.logprob == pytest.approx(float(row[one.token_id]), abs=NEAR)
            best = row.topk(3)
            assert [token for token, _, _ in one.likeliest] == best.indices.tolist()
            assert [told for _, _, told in one.likeliest] == pytest.approx(best.values.tolist(), abs=NEAR)
            assert one.text in stage.reference.tokenizer.decode([one.token_id])


async def test_nothing_is_told_unasked_and_no_likeliest_for_none(stage: Stage) -> None:
    assert await told(stage) == ([], [])
    prompt, answer = await told(stage, logprobs=0)
    assert prompt == []
    assert [one.token_id for one in answer] == stage.expected(stage.one, ENDLESS)
    assert {one.likeliest for one in answer} == {()}


async def test_a_prompt_alone_can_be_told_of(stage: Stage) -> None:
    request = stage.ask(stage.one, ENDLESS, max_tokens=0, logprobs=1, prompt_logprobs=True)
    (batch,) = await stage.batches(request)
    prompt = stage.reference.encode(ENDLESS)
    assert [one.token_id for one in batch.prompt_logprobs] == prompt
    assert (batch.text, batch.token_ids, batch.finish) == ("", (), FinishReason.LENGTH)
    assert (batch.prompt_tokens, batch.completion_tokens) == (len(prompt), 0)


async def test_a_prompt_may_come_as_tokens_and_fill_the_context(stage: Stage) -> None:
    request = replace(
        stage.ask(stage.one, ""), prompt=None, prompt_tokens=tuple(stage.reference.encode(ENDLESS))
    )
    assert await stage.answer(request) == stage.expected(stage.one, ENDLESS)
    full = (stage.reference.encode("dog") * LIMITS.max_context)[: LIMITS.max_context]
    for tokens, room in ((full, 0), (full[1:], 1)):
        batches = await stage.batches(
            replace(request, prompt_tokens=tuple(tokens), max_tokens=room, logprobs=0, prompt_logprobs=True)
        )
        assert batches[-1].prompt_tokens == len(tokens)
        assert len(batches[0].prompt_logprobs) == len(tokens)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(repetition_penalty=1.3),
        Sampling(presence_penalty=1.5),
        Sampling(frequency_penalty=0.7),
        Sampling(logit_bias=tuple((token, 3.0 - token % 7) for token in range(0, 500, 3))),
        Sampling(
            repetition_penalty=1.2, presence_penalty=0.4, frequency_penalty=-0.2, logit_bias=((300, 2.5),)
        ),
    ],
)
async def test_penalties_and_bias_change_greedy_answers_as_defined(stage: Stage, sampling: Sampling) -> None:
    wanted = penalised(stage, sampling, 20)
    assert wanted != stage.expected(stage.one, ENDLESS, 20)
    assert await stage.answer(stage.ask(stage.one, ENDLESS, sampling=sampling, max_tokens=20)) == wanted


async def test_only_likely_tokens_are_drawn(stage: Stage) -> None:
    _, drawn = await told(stage, sampling=Sampling(2.0, top_k=3, seed=5), logprobs=3, max_tokens=60)
    assert all(one.token_id in [token for token, _, _ in one.likeliest] for one in drawn)
    assert len({[token for token, _, _ in one.likeliest].index(one.token_id) for one in drawn}) == 3
    _, drawn = await told(stage, sampling=Sampling(1.0, min_p=0.4, seed=5), logprobs=1, max_tokens=60)
    shares = [math.exp((one.logprob or 0.0) - one.likeliest[0][2]) for one in drawn]
    assert min(shares) >= 0.4 - NEAR
    assert min(shares) < 1


async def test_each_choice_has_random_numbers_of_its_own(stage: Stage) -> None:
    request = stage.ask(stage.one, ENDLESS, sampling=Sampling(1.5, seed=2**64 - 1), max_tokens=16)
    asked = [replace(request, choice=choice) for choice in (0, 1, 2, 0, 1, 2)]
    answers = await asyncio.gather(*(stage.answer(one) for one in asked))
    assert answers[:3] == answers[3:]
    assert len({tuple(answer) for answer in answers}) == 3
