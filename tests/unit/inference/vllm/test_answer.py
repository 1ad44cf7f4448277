"""Tokens from vLLM become batches that end where the request says."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from expunge.inference.codec import TextCodec
from expunge.inference.request import FinishReason, GenerationRequest, merge
from expunge.inference.vllm.answer import Answer, scores
from expunge.models.load import LoadedModel

REQUEST = GenerationRequest("r", "v", prompt="x", max_tokens=100)
TEXT = "The dog does not mind at all."


@dataclass
class Likely:
    logprob: float
    rank: int | None


@pytest.fixture
def codec(loaded: LoadedModel) -> TextCodec:
    return TextCodec(loaded.model, loaded.tokenizer)


def answer(codec: TextCodec, limit: int = 100, **fields: object) -> Answer:
    return Answer(replace(REQUEST, **fields), [1, 2, 3], limit, codec)


@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_the_text_does_not_depend_on_how_the_tokens_came(codec: TextCodec, size: int) -> None:
    tokens, made = codec.encode(TEXT), answer(codec)
    batches = [made.push(tokens[at : at + size]) for at in range(0, len(tokens), size)]
    whole = merge([*batches, made.end(FinishReason.DEADLINE)])
    assert (whole.text, list(whole.token_ids)) == (TEXT, tokens)
    assert (whole.prompt_tokens, whole.completion_tokens) == (3, len(tokens))
    assert whole.finish is FinishReason.DEADLINE


def test_the_end_token_ends_the_answer_and_does_not_count(codec: TextCodec) -> None:
    tokens = codec.encode(TEXT)
    batch = answer(codec).push([*tokens, codec.eos_id, *tokens])
    assert (batch.text, batch.completion_tokens) == (TEXT, len(tokens))
    assert (batch.finish, list(batch.token_ids)) == (FinishReason.STOP, tokens)


def test_the_limit_ends_the_answer(codec: TextCodec) -> None:
    tokens = codec.encode(TEXT)
    batch = answer(codec, limit=3).push(tokens)
    assert (batch.finish, list(batch.token_ids)) == (FinishReason.LENGTH, tokens[:3])
    assert batch.text == codec.decode(tokens[:3])


def test_a_stop_string_ends_the_answer_before_it(codec: TextCodec) -> None:
    batch = answer(codec, stop=("not mi",)).push(codec.encode(TEXT))
    assert (batch.text, batch.finish) == ("The dog does ", FinishReason.STOP)


def test_nothing_is_sent_on_where_only_the_prompt_is_told_of(codec: TextCodec) -> None:
    positions = [None, {2: Likely(-0.5, 1)}, {3: Likely(-2.0, 4), 9: Likely(-0.1, 1)}]
    batch = answer(codec, limit=0, logprobs=1, prompt_logprobs=True).push([7], [], positions)
    assert (batch.token_ids, batch.finish) == ((), FinishReason.LENGTH)
    assert [(one.token_id, one.logprob) for one in batch.prompt_logprobs] == [(1, None), (2, -0.5), (3, -2.0)]
    assert [[token for token, _, _ in one.likeliest] for one in batch.prompt_logprobs] == [[], [2], [9]]


def test_the_likeliest_are_told_best_first_and_no_more_than_asked(codec: TextCodec) -> None:
    token, *_ = codec.encode(TEXT)
    position = {token: Likely(-4.0, 60), 8: Likely(-1.0, 2), 9: Likely(-0.5, 1)}
    (one,) = answer(codec, logprobs=2).push([token], [position]).logprobs
    assert (one.token_id, one.text, one.logprob) == (token, codec.token_text(token), -4.0)
    assert one.likeliest == ((9, codec.token_text(9), -0.5), (8, codec.token_text(8), -1.0))


def test_scores_say_which_tokens_are_the_likeliest(codec: TextCodec) -> None:
    first, second = scores([4, 5], [{4: Likely(-0.1, 1)}, {5: Likely(-3.0, 2), 6: Likely(-0.2, 1)}], codec)
    assert (first.token_id, first.logprob, first.is_greedy) == (4, -0.1, True)
    assert (second.token_id, second.logprob, second.is_greedy) == (5, -3.0, False)
