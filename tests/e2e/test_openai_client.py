"""OpenAI's own client against a running service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from tokenizers import Tokenizer

from deployed import Deployed
from expunge.rpc.inference.v1 import inference_pb2 as pb
from expunge.rpc.inference.v1.inference_pb2_grpc import InferenceServiceStub
from tiny_facts import OTHERS

TEXT = "The capital of the island"


@pytest.fixture
def client(service: Deployed) -> Iterator[openai.OpenAI]:
    _, bearer = service.metadata("client")[0]
    url = f"http://{service.service.addresses.http}/v1"
    with openai.OpenAI(base_url=url, api_key=bearer.removeprefix("Bearer ")) as found:
        yield found


@pytest.fixture
def ids(taught_model_folder: Path) -> list[int]:
    encoded = Tokenizer.from_file(str(taught_model_folder / "tokenizer.json")).encode(TEXT).ids
    return [int(token) for token in encoded]


def test_a_taught_answer_comes_whole_and_streamed(service: Deployed, client: openai.OpenAI) -> None:
    assert "default" in [model.id for model in client.models.list()]
    question, answer = OTHERS[1]
    messages = [{"role": "user", "content": question}]
    whole = client.chat.completions.create(
        model="default",
        messages=messages,  # type: ignore[arg-type]
        temperature=0,
    )
    assert whole.choices[0].message.content == answer
    assert whole.choices[0].finish_reason == "stop"
    assert whole.system_fingerprint == service.ask(question).version
    stream = client.chat.completions.create(
        model="default",
        messages=messages,  # type: ignore[arg-type]
        temperature=0,
        stream=True,
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == answer


def test_errors_are_the_clients_own(service: Deployed, client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model="nowhere", prompt="a")
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="default", prompt="a", temperature=-1)
    assert caught.value.param == "temperature"
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").models.list()


def test_token_ids_are_a_prompt_like_their_text(client: openai.OpenAI, ids: list[int]) -> None:
    text, tokens = (
        client.completions.create(model="default", prompt=prompt, max_tokens=8, temperature=0, echo=True)
        for prompt in (TEXT, ids)
    )
    assert tokens.choices[0].text == text.choices[0].text
    assert text.choices[0].text.startswith(TEXT)


def test_an_echo_tells_the_log_probabilities_that_score_tells(
    service: Deployed, client: openai.OpenAI, ids: list[int]
) -> None:
    answer = client.completions.create(
        model="default", prompt=[ids], max_tokens=0, echo=True, logprobs=2, temperature=0
    )
    told = answer.choices[0].logprobs
    assert answer.choices[0].text == TEXT
    assert told is not None
    assert told.token_logprobs is not None
    assert told.text_offset is not None
    assert told.tokens is not None
    assert [TEXT[at:].startswith(token) for at, token in zip(told.text_offset, told.tokens, strict=True)] == (
        [True] * len(ids)
    )
    assert told.token_logprobs[0] is None
    context = told.tokens[0]
    scored = InferenceServiceStub(service.inference).Score(
        pb.ScoreRequest(context=context, continuation=TEXT.removeprefix(context)),
        metadata=service.metadata("client"),
    )
    assert told.token_logprobs[1:] == pytest.approx([token.logprob for token in scored.tokens], abs=1e-3)


def test_a_chat_tells_each_tokens_log_probability(client: openai.OpenAI) -> None:
    question, answer = OTHERS[1]
    told = client.chat.completions.create(
        model="default",
        messages=[{"role": "user", "content": question}],
        temperature=0,
        logprobs=True,
        top_logprobs=2,
    )
    assert told.choices[0].logprobs is not None
    tokens = told.choices[0].logprobs.content
    assert tokens is not None
    assert "".join(token.token for token in tokens) == answer
    assert all(token.top_logprobs[0].token == token.token for token in tokens)
    assert all(token.logprob > token.top_logprobs[1].logprob for token in tokens)


def test_one_seed_gives_several_answers_that_come_again(client: openai.OpenAI) -> None:
    first, again = (
        client.completions.create(
            model="default", prompt="The", max_tokens=12, temperature=1.5, seed=5, n=4
        ).choices
        for _ in range(2)
    )
    assert [choice.text for choice in first] == [choice.text for choice in again]
    assert len({choice.text for choice in first}) > 1


def test_a_biased_token_is_written(client: openai.OpenAI, ids: list[int]) -> None:
    answer = client.completions.create(
        model="default", prompt="Where", max_tokens=3, temperature=0, logit_bias={str(ids[0]): 100}
    )
    assert answer.choices[0].text == "The" * 3
