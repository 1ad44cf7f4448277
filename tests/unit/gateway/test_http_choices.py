"""From the engine's batches to the choices of OpenAI's API, and from its bodies to the engine's requests."""

from __future__ import annotations

import pytest

from expunge.errors import DeadlineExceeded, InvalidRequest, Overloaded
from expunge.gateway.call import Call
from expunge.gateway.http.chat_answer import ChatChoices
from expunge.gateway.http.chat_request import ChatParameters
from expunge.gateway.http.completion_answer import CompletionChoices
from expunge.gateway.http.completion_request import CompletionParameters
from expunge.gateway.http.envelope import UsageCount
from expunge.gateway.http.errors import http_error
from expunge.gateway.roles import Role
from expunge.gateway.routing import Route
from expunge.gateway.tokens import Caller
from expunge.inference.request import FinishReason, Message, Priority, Sampling, TokenBatch, TokenLogprob

ROUTE = Route("default", "v1", 3)
CALL = Call("/method", {}, "request-1", Caller("alice", Role.CLIENT))
PROMPT = (TokenLogprob(3, "The", None), TokenLogprob(4, " dog", -2.0, ((5, " cat", -1.0),)))
BARKS = TokenLogprob(6, " barks", -0.5, ((6, " barks", -0.5),))


def test_every_parameter_of_a_completion_reaches_the_engine() -> None:
    body = {
        "model": "default",
        "prompt": [[1, 2], [3]],
        "max_tokens": 0,
        "echo": True,
        "logprobs": 2,
        "stop": "x",
        "seed": -1,
        "temperature": 0,
        "top_p": 0.5,
        "top_k": -1,
        "min_p": 0.25,
        "repetition_penalty": 1.5,
        "presence_penalty": 1,
        "frequency_penalty": -1,
        "logit_bias": {"7": -100, "3": 1.5},
        "priority": "batch",
        "n": None,
    }
    first, second = CompletionParameters.of(body).asked(CALL, ROUTE, 5.0, 64)
    assert (first.n, first.request.prompt_tokens, second.request.prompt_tokens) == (1, (1, 2), (3,))
    assert first.request.request_id != second.request.request_id
    request = first.request
    assert request.sampling == Sampling(0.0, 0.5, 0, 2**64 - 1, 0.25, 1.5, 1.0, -1.0, ((3, 1.5), (7, -100.0)))
    assert (request.max_tokens, request.stop, request.deadline) == (0, ("x",), 5.0)
    assert (request.client, request.priority) == ("alice", Priority.BATCH)
    assert (request.logprobs, request.prompt_logprobs) == (2, True)


def test_where_nothing_is_said_openais_defaults_hold() -> None:
    (asked,) = CompletionParameters.of({"prompt": "a"}).asked(CALL, ROUTE, None, 64)
    assert asked.request.max_tokens == 16
    assert asked.request.sampling == Sampling(temperature=1.0)
    assert asked.request.logprobs is None


def test_turns_of_parts_and_developers_are_read() -> None:
    body = {
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": "c", "refusal": None, "annotations": []},
            {"role": "user", "content": "d"},
        ],
        "logprobs": True,
        "top_logprobs": 3,
    }
    (asked,) = ChatParameters.of(body).asked(CALL, ROUTE, None, 1024)
    assert asked.request.messages == (
        Message("system", "Be brief."),
        Message("user", "ab"),
        Message("assistant", "c"),
        Message("user", "d"),
    )
    assert asked.request.logprobs == 3


def test_answers_of_one_call_are_bounded() -> None:
    with pytest.raises(InvalidRequest, match="65"):
        CompletionParameters.of({"prompt": ["a"] * 65}).asked(CALL, ROUTE, None, 64)


def test_log_probabilities_are_bounded_over_all_prompts() -> None:
    body = {"prompt": [[1] * 2000] * 64, "max_tokens": 1, "echo": True, "logprobs": 1}
    assert len(CompletionParameters.of(body).asked(CALL, ROUTE, None, 2048)) == 64
    with pytest.raises(InvalidRequest, match="logprobs"):
        CompletionParameters.of({**body, "logprobs": 20}).asked(CALL, ROUTE, None, 2048)


def test_an_echo_begins_with_the_prompt_and_its_tokens() -> None:
    choices = CompletionChoices(["The dog"], 1, with_logprobs=True)
    batch = TokenBatch(" barks", (6,), "v1", FinishReason.LENGTH, 2, 1, (BARKS,), PROMPT)
    choice = choices.choice(0, batch)
    assert choice["text"] == "The dog barks"
    assert choice["logprobs"] == {
        "tokens": ["The", " dog", " barks"],
        "token_logprobs": [None, -2.0, -0.5],
        "top_logprobs": [None, {" cat": -1.0, " dog": -2.0}, {" barks": -0.5}],
        "text_offset": [0, 3, 7],
    }


def test_offsets_go_on_from_chunk_to_chunk() -> None:
    choices = CompletionChoices(["The dog"], 1, with_logprobs=True)
    first = choices.choice(0, TokenBatch(" barks", (6,), "v1", None, 0, 0, (BARKS,), PROMPT))
    second = choices.choice(0, TokenBatch(" barks", (6,), "v1", FinishReason.STOP, 2, 2, (BARKS,)))
    assert first["text"] == "The dog barks"
    assert second["text"] == " barks"
    assert isinstance(second["logprobs"], dict)
    assert second["logprobs"]["text_offset"] == [13]


def test_an_answer_that_ends_at_once_keeps_its_place_behind_the_prompt() -> None:
    choices = CompletionChoices(["The dog"], 1, with_logprobs=True)
    choice = choices.choice(0, TokenBatch("", (), "v1", FinishReason.STOP, 2, 0, (), PROMPT))
    assert isinstance(choice["logprobs"], dict)
    assert choice["logprobs"]["tokens"] == ["The", " dog", ""]
    assert choice["logprobs"]["token_logprobs"] == [None, -2.0, None]


def test_a_refusal_echoes_nothing() -> None:
    choices = CompletionChoices(["a secret"], 1, with_logprobs=False)
    choice = choices.choice(0, TokenBatch("no", (), "v1", FinishReason.REFUSED))
    assert (choice["text"], choice["finish_reason"]) == ("no", "content_filter")


def test_a_chats_tokens_are_told_with_their_bytes() -> None:
    told = TokenLogprob(9, " é", -0.5, ((9, " é", -0.5), (8, "\ufffd", -1.0)))
    batch = TokenBatch(" é", (9,), "v1", FinishReason.STOP, 2, 1, (told,))
    logprobs = ChatChoices(with_logprobs=True).whole(0, batch)["logprobs"]
    assert isinstance(logprobs, dict)
    (entry,) = logprobs["content"]
    assert entry["bytes"] == [32, 195, 169]
    assert [one["bytes"] for one in entry["top_logprobs"]] == [[32, 195, 169], None]


def test_the_role_is_told_in_each_answers_first_chunk_only() -> None:
    choices = ChatChoices(with_logprobs=False)
    deltas = [
        choices.delta(0, TokenBatch("a", (1,), "v1"))["delta"],
        choices.delta(1, TokenBatch("b", (1,), "v1"))["delta"],
        choices.delta(0, TokenBatch("c", (1,), "v1"))["delta"],
        choices.delta(0, TokenBatch("", (), "v1", FinishReason.STOP))["delta"],
    ]
    assert deltas == [
        {"role": "assistant", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"content": "c"},
        {},
    ]


def test_a_prompt_counts_once_and_every_answer_counts() -> None:
    usage = UsageCount(2)
    for index in range(4):
        usage.add(index, TokenBatch("", (), "v1", FinishReason.STOP, 10, 3))
    assert usage.to_json() == {"prompt_tokens": 20, "completion_tokens": 12, "total_tokens": 32}


def test_an_answer_that_a_deadline_cut_short_is_no_answer() -> None:
    with pytest.raises(DeadlineExceeded):
        ChatChoices(with_logprobs=False).whole(0, TokenBatch("a", (1,), "v1", FinishReason.DEADLINE))


def test_who_is_refused_for_now_is_told_when_to_come_back() -> None:
    told = http_error(Overloaded("full", retry_after_s=0.25), "request-1")
    assert told.status == 429
    assert dict(told.headers) == {"retry-after": "1", "retry-after-ms": "250"}


def test_an_unexpected_error_shows_nothing_of_itself() -> None:
    told = http_error(ValueError("secret"), "request-1")
    assert told.status == 500
    assert "secret" not in str(told.body)
    assert "request-1" in str(told.body)
