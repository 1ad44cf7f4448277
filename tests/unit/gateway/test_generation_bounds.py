"""From a gRPC message to what the engine is asked, and every bad field by its name."""

from __future__ import annotations

import math

import pytest

from expunge.errors import InvalidRequest
from expunge.gateway.call import Call
from expunge.gateway.inference_messages import asked_of, generate_chunk, generate_response, score_request
from expunge.gateway.roles import Role
from expunge.gateway.routing import Route
from expunge.gateway.tokens import Caller
from expunge.inference.request import FinishReason, Priority, Sampling, TokenBatch, TokenLogprob
from expunge.rpc.inference.v1 import inference_pb2 as pb

ROUTE = Route("default", "v1", 3)
CALL = Call("/method", {}, "request-1", Caller("alice", Role.CLIENT))
CONTEXT = 64


def violations(message: pb.GenerateRequest) -> set[str]:
    with pytest.raises(InvalidRequest) as caught:
        asked_of(message, CALL, ROUTE, None, CONTEXT)
    return {violation.field for violation in caught.value.violations}


def test_every_field_of_a_message_reaches_the_engine() -> None:
    sampling = pb.Sampling(
        temperature=0.5,
        top_p=0.9,
        top_k=3,
        seed=2**63,
        min_p=0.1,
        repetition_penalty=1.2,
        presence_penalty=-1.0,
        frequency_penalty=2.0,
        logit_bias={7: -100.0, 3: 5.0},
    )
    message = pb.GenerateRequest(
        prompt_tokens=[5, 6],
        max_tokens=0,
        stop=["\n"],
        sampling=sampling,
        logprobs=0,
        prompt_logprobs=True,
        priority=pb.PRIORITY_BATCH,
    )
    asked = asked_of(message, CALL, ROUTE, 12.5, CONTEXT)
    request = asked.request
    assert asked.n == 1
    assert request.prompt is None
    assert request.prompt_tokens == (5, 6)
    assert request.max_tokens == 0
    assert request.client == "alice"
    assert request.priority is Priority.BATCH
    assert request.logprobs == 0
    assert request.prompt_logprobs
    assert request.deadline == 12.5
    assert request.sampling == Sampling(0.5, 0.9, 3, 2**63, 0.1, 1.2, -1.0, 2.0, ((3, 5.0), (7, -100.0)))


def test_what_is_not_set_stays_at_its_default() -> None:
    asked = asked_of(pb.GenerateRequest(prompt="a"), CALL, ROUTE, None, CONTEXT * 4)
    assert asked.n == 1
    assert asked.request.sampling == Sampling()
    assert asked.request.logprobs is None
    assert asked.request.priority is Priority.INTERACTIVE


def test_several_answers_are_several_requests_that_tell_of_the_prompt_once() -> None:
    message = pb.GenerateRequest(prompt="a", n=3, logprobs=1, prompt_logprobs=True, max_tokens=2)
    requests = asked_of(message, CALL, ROUTE, None, CONTEXT).requests()
    assert [request.choice for request in requests] == [0, 1, 2]
    assert [request.prompt_logprobs for request in requests] == [True, False, False]
    assert len({request.request_id for request in requests}) == 3


def test_every_bad_field_is_named_together() -> None:
    sampling = pb.Sampling(
        temperature=math.nan,
        top_p=0.0,
        top_k=2**31,
        min_p=1.0,
        repetition_penalty=0.0,
        presence_penalty=-2.1,
        frequency_penalty=math.inf,
        logit_bias={9: 101.0},
    )
    message = pb.GenerateRequest(
        prompt="a", sampling=sampling, n=9, logprobs=21, max_tokens=CONTEXT, stop=["", "x"]
    )
    assert violations(message) == {
        "sampling.temperature",
        "sampling.top_p",
        "sampling.top_k",
        "sampling.min_p",
        "sampling.repetition_penalty",
        "sampling.presence_penalty",
        "sampling.frequency_penalty",
        "sampling.logit_bias[9]",
        "n",
        "logprobs",
        "max_tokens",
        "stop[0]",
    }


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (pb.GenerateRequest(max_tokens=1), "prompt"),
        (pb.GenerateRequest(prompt="a", prompt_tokens=[1], max_tokens=1), "prompt"),
        (pb.GenerateRequest(prompt_tokens=[1] * (CONTEXT + 1), max_tokens=1), "prompt_tokens"),
        (pb.GenerateRequest(prompt="a", max_tokens=0), "max_tokens"),
        (pb.GenerateRequest(prompt="a", max_tokens=1, prompt_logprobs=True), "prompt_logprobs"),
        (pb.GenerateRequest(prompt="a", max_tokens=0, logprobs=0, prompt_logprobs=True, n=2), "n"),
        (pb.GenerateRequest(prompt="a", max_tokens=1, stop=["x"] * 100), "stop"),
        (pb.GenerateRequest(messages=[pb.Message(role="x")] * (CONTEXT + 1), max_tokens=1), "messages"),
        (
            pb.GenerateRequest(
                prompt="a", max_tokens=1, sampling=pb.Sampling(logit_bias=dict.fromkeys(range(1025), 1.0))
            ),
            "sampling.logit_bias",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_field_is_named(message: pb.GenerateRequest, field: str) -> None:
    assert violations(message) == {field}


def test_a_call_is_told_a_bounded_number_of_log_probabilities() -> None:
    message = pb.GenerateRequest(prompt="a", n=8, max_tokens=2000, logprobs=20, prompt_logprobs=True)
    with pytest.raises(InvalidRequest, match="336,021"):  # 21 for each of 16,000 tokens and the prompt's one
        asked_of(message, CALL, ROUTE, None, 2048)
    message.n = 1
    assert asked_of(message, CALL, ROUTE, None, 2048).n == 1


def test_a_priority_that_nobody_knows_is_refused() -> None:
    message = pb.ScoreRequest(continuation="a")
    message.ParseFromString(message.SerializeToString() + b"\x20\x07")  # field 4, an enum value to come
    with pytest.raises(InvalidRequest, match="priority"):
        score_request(message, CALL, ROUTE, None, CONTEXT)


def test_the_first_answer_comes_first_and_usage_counts_all() -> None:
    told = (TokenLogprob(4, " b", -0.5, ((4, " b", -0.5), (5, " c", -1.5))),)
    begins = (TokenLogprob(3, "a", None),)
    first = TokenBatch(" b", (4,), "v1", FinishReason.LENGTH, 5, 1, told, begins)
    second = TokenBatch(" c", (5,), "v1", FinishReason.STOP, 5, 2)
    response = generate_response([first, second], "request-1", ROUTE)
    assert (response.text, response.finish_reason) == (" b", pb.FINISH_REASON_LENGTH)
    assert [(one.text, one.finish_reason) for one in response.more_choices] == [(" c", pb.FINISH_REASON_STOP)]
    assert response.usage == pb.Usage(prompt_tokens=5, completion_tokens=3)
    assert [token.text for token in response.logprobs[0].likeliest] == [" b", " c"]
    assert not response.prompt_logprobs[0].HasField("logprob")


def test_a_chunk_names_its_answer_and_has_usage_at_the_end_only() -> None:
    begun = generate_chunk(1, TokenBatch("a", (3,), "v1"), "request-1", ROUTE)
    ended = generate_chunk(1, TokenBatch("", (), "v1", FinishReason.STOP, 2, 1), "request-1", ROUTE)
    assert (begun.index, begun.token_count, begun.HasField("usage")) == (1, 1, False)
    assert ended.usage == pb.Usage(prompt_tokens=2, completion_tokens=1)
