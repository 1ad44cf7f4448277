"""Between the messages of InferenceService and the engine's records; bad fields are named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from expunge.errors import InvalidRequest
from expunge.gateway.answering import Asked
from expunge.gateway.call import Call
from expunge.gateway.generation_bounds import DEFAULT_MAX_TOKENS, check_generation, check_score
from expunge.gateway.routing import Route
from expunge.inference.request import (
    FinishReason,
    GenerationRequest,
    Message,
    Priority,
    Sampling,
    ScoreRequest,
    ScoreResult,
    TokenBatch,
    TokenLogprob,
)
from expunge.registry.records import Rollout
from expunge.rpc.inference.v1 import inference_pb2 as pb

_FINISH = {
    FinishReason.STOP: pb.FINISH_REASON_STOP,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
    FinishReason.CANCELLED: pb.FINISH_REASON_CANCELLED,
    FinishReason.DEADLINE: pb.FINISH_REASON_DEADLINE,
    FinishReason.REFUSED: pb.FINISH_REASON_REFUSED,
}

_PRIORITY = {
    pb.PRIORITY_UNSPECIFIED: Priority.INTERACTIVE,
    pb.PRIORITY_INTERACTIVE: Priority.INTERACTIVE,
    pb.PRIORITY_BATCH: Priority.BATCH,
}

AnyGenerate = pb.GenerateRequest | pb.GenerateStreamRequest


def asked_of(
    message: AnyGenerate, call: Call, route: Route, deadline: float | None, max_context: int
) -> Asked:
    """What the engine is to be asked.

    Args:
        deadline: seconds since the epoch, or None.
        max_context: prompt plus output tokens the service allows.

    Raises:
        InvalidRequest: naming every bad field.
    """
    request = GenerationRequest(
        request_id=call.request_id,
        version=route.version,
        prompt=message.prompt or None,
        prompt_tokens=tuple(message.prompt_tokens),
        messages=tuple(Message(turn.role, turn.content) for turn in message.messages),
        max_tokens=message.max_tokens if message.HasField("max_tokens") else DEFAULT_MAX_TOKENS,
        stop=tuple(message.stop),
        sampling=_sampling(message.sampling),
        deadline=deadline,
        continue_final_message=message.continue_final_message,
        client=call.principal,
        priority=_priority(message.priority),
        logprobs=message.logprobs if message.HasField("logprobs") else None,
        prompt_logprobs=message.prompt_logprobs,
    )
    n = message.n or 1
    check_generation(request, n, max_context)
    return Asked(request, n)


def _sampling(message: pb.Sampling) -> Sampling:
    return Sampling(
        temperature=message.temperature,
        top_p=message.top_p if message.HasField("top_p") else 1.0,
        top_k=message.top_k,
        seed=message.seed if message.HasField("seed") else None,
        min_p=message.min_p,
        repetition_penalty=message.repetition_penalty if message.HasField("repetition_penalty") else 1.0,
        presence_penalty=message.presence_penalty,
        frequency_penalty=message.frequency_penalty,
        logit_bias=tuple(sorted(message.logit_bias.items())),
    )


def _priority(priority: pb.Priority.ValueType) -> Priority:
    if priority not in _PRIORITY:
        raise InvalidRequest.of("priority", f"{priority} is none of those that the contract names")
    return _PRIORITY[priority]


def score_request(
    message: pb.ScoreRequest, call: Call, route: Route, deadline: float | None, max_context: int
) -> ScoreRequest:
    """The engine's request.

    Raises:
        InvalidRequest: there is nothing to score, or too much.
    """
    request = ScoreRequest(
        call.request_id,
        route.version,
        message.context,
        message.continuation,
        deadline,
        client=call.principal,
        priority=_priority(message.priority),
    )
    check_score(request, max_context)
    return request


def score_response(result: ScoreResult, request_id: str, route: Route) -> pb.ScoreResponse:
    return pb.ScoreResponse(
        logprob=result.logprob,
        is_greedy=result.is_greedy,
        tokens=[
            pb.TokenScore(
                token_id=token.token_id, text=token.text, logprob=token.logprob, is_greedy=token.is_greedy
            )
            for token in result.tokens
        ],
        version=result.version,
        generation=route.generation,
        request_id=request_id,
        alias=route.alias,
    )


def generate_response(answers: Sequence[TokenBatch], request_id: str, route: Route) -> pb.GenerateResponse:
    """All answers to one prompt."""
    first = answers[0]
    return pb.GenerateResponse(
        text=first.text,
        version=route.version,
        generation=route.generation,
        finish_reason=finish_reason(first.finish),
        usage=pb.Usage(
            prompt_tokens=first.prompt_tokens,
            completion_tokens=sum(answer.completion_tokens for answer in answers),
        ),
        request_id=request_id,
        alias=route.alias,
        logprobs=_token_logprobs(first.logprobs),
        prompt_logprobs=_token_logprobs(first.prompt_logprobs),
        more_choices=[
            pb.Choice(
                text=answer.text,
                finish_reason=finish_reason(answer.finish),
                logprobs=_token_logprobs(answer.logprobs),
            )
            for answer in answers[1:]
        ],
    )


def generate_chunk(index: int, batch: TokenBatch, request_id: str, route: Route) -> pb.GenerateStreamResponse:
    """Some more of the answer `index`."""
    usage = pb.Usage(prompt_tokens=batch.prompt_tokens, completion_tokens=batch.completion_tokens)
    return pb.GenerateStreamResponse(
        text=batch.text,
        version=route.version,
        generation=route.generation,
        finish_reason=finish_reason(batch.finish),
        usage=usage if batch.finish is not None else None,
        request_id=request_id,
        alias=route.alias,
        token_count=len(batch.token_ids),
        index=index,
        logprobs=_token_logprobs(batch.logprobs),
        prompt_logprobs=_token_logprobs(batch.prompt_logprobs),
    )


def models_response(rollouts: Mapping[str, Rollout]) -> pb.ListModelsResponse:
    return pb.ListModelsResponse(
        models=[
            pb.Model(
                alias=alias,
                generation=rollout.generation,
                targets=[
                    pb.ModelTarget(version=target.version, weight=target.weight) for target in rollout.targets
                ],
            )
            for alias, rollout in sorted(rollouts.items())
        ]
    )


def _token_logprobs(tokens: Sequence[TokenLogprob]) -> list[pb.TokenLogprob]:
    return [
        pb.TokenLogprob(
            token_id=token.token_id,
            text=token.text,
            logprob=token.logprob,
            likeliest=[
                pb.TokenLogprob(token_id=token_id, text=text, logprob=logprob)
                for token_id, text, logprob in token.likeliest
            ],
        )
        for token in tokens
    ]


def finish_reason(finish: FinishReason | None) -> pb.FinishReason.ValueType:
    return pb.FINISH_REASON_UNSPECIFIED if finish is None else _FINISH[finish]
