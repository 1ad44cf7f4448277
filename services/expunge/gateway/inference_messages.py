"""Between the messages of InferenceService and the engine's records; bad fields are named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from expunge.errors import InvalidRequest, Violation
from expunge.gateway.routing import Route
from expunge.inference.request import (
    FinishReason,
    GenerationRequest,
    Message,
    Sampling,
    ScoreRequest,
    ScoreResult,
    TokenBatch,
    TokenLogprob,
)
from expunge.inference.validation import ROLES
from expunge.registry.records import Rollout
from expunge.rpc.inference.v1 import inference_pb2 as pb

DEFAULT_MAX_TOKENS = 128
MAX_STOPS = 8
MAX_STOP_CHARS = 128
MAX_TEMPERATURE = 2.0
MAX_TOP_K = 2**20
CHARS_PER_TOKEN = 16  # longer texts than this times the context are refused before anything reads them

_FINISH = {
    FinishReason.STOP: pb.FINISH_REASON_STOP,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
    FinishReason.CANCELLED: pb.FINISH_REASON_CANCELLED,
    FinishReason.DEADLINE: pb.FINISH_REASON_DEADLINE,
    FinishReason.REFUSED: pb.FINISH_REASON_REFUSED,
}

AnyGenerate = pb.GenerateRequest | pb.GenerateStreamRequest


def generation_request(
    message: AnyGenerate, request_id: str, route: Route, deadline: float | None, max_context: int
) -> GenerationRequest:
    """The engine's request.

    Args:
        deadline: seconds since the epoch, or None.
        max_context: prompt plus output tokens the service allows.

    Raises:
        InvalidRequest: naming every bad field.
    """
    violations = [
        *_input_violations(message),
        *_length_violations(message, max_context),
        *_limit_violations(message, max_context),
    ]
    if violations:
        raise InvalidRequest.of_all(violations)
    sampling = message.sampling
    return GenerationRequest(
        request_id=request_id,
        version=route.version,
        prompt=None if message.messages else message.prompt,
        messages=tuple(Message(turn.role, turn.content) for turn in message.messages),
        max_tokens=message.max_tokens if message.HasField("max_tokens") else DEFAULT_MAX_TOKENS,
        stop=tuple(message.stop),
        sampling=Sampling(
            temperature=sampling.temperature,
            top_p=sampling.top_p if sampling.HasField("top_p") else 1.0,
            top_k=sampling.top_k,
            seed=sampling.seed if sampling.HasField("seed") else None,
        ),
        deadline=deadline,
        continue_final_message=message.continue_final_message,
    )


def _input_violations(message: AnyGenerate) -> Sequence[Violation]:
    if bool(message.prompt) == bool(message.messages):
        return [Violation("prompt", "set exactly one of prompt and messages")]
    violations = [
        Violation(f"messages[{index}].role", f"must be one of {', '.join(ROLES)}")
        for index, turn in enumerate(message.messages)
        if turn.role not in ROLES
    ]
    last = message.messages[-1].role if message.messages else ""
    if message.continue_final_message and (last != "assistant" or len(message.messages) < 2):
        violations.append(
            Violation("continue_final_message", "needs messages that end with the assistant's turn")
        )
    elif last not in ("", "user") and not message.continue_final_message:
        violations.append(
            Violation(
                "messages",
                "must end with a user's turn, or with the assistant's and continue_final_message set",
            )
        )
    return violations


def _length_violations(message: AnyGenerate, max_context: int) -> Sequence[Violation]:
    fields = {"prompt": len(message.prompt), "messages": sum(len(turn.content) for turn in message.messages)}
    return [
        _too_long(field, max_context) for field, chars in fields.items() if chars > _most_chars(max_context)
    ]


def _most_chars(max_context: int) -> int:
    """What can't fit the context must not keep the guards, and with them every other request, busy."""
    return CHARS_PER_TOKEN * max_context


def _too_long(field: str, max_context: int) -> Violation:
    return Violation(
        field, f"has more than {_most_chars(max_context):,} characters, which can't fit; shorten it"
    )


def _limit_violations(message: AnyGenerate, max_context: int) -> Sequence[Violation]:
    violations = []
    sampling = message.sampling
    if message.HasField("max_tokens") and not 1 <= message.max_tokens < max_context:
        violations.append(Violation("max_tokens", f"must be from 1 to {max_context - 1}"))
    if len(message.stop) > MAX_STOPS:
        violations.append(
            Violation("stop", f"has {len(message.stop)} entries; at most {MAX_STOPS} are allowed")
        )
    for index, stop in enumerate(message.stop):
        if not 1 <= len(stop) <= MAX_STOP_CHARS:
            violations.append(Violation(f"stop[{index}]", f"must have 1 to {MAX_STOP_CHARS} characters"))
    if not 0 <= sampling.temperature <= MAX_TEMPERATURE:  # false for NaN, too
        violations.append(Violation("sampling.temperature", f"must be from 0 to {MAX_TEMPERATURE:g}"))
    if sampling.HasField("top_p") and not 0 < sampling.top_p <= 1:
        violations.append(Violation("sampling.top_p", "must be above 0 and at most 1"))
    if sampling.top_k > MAX_TOP_K:
        violations.append(Violation("sampling.top_k", f"must be at most {MAX_TOP_K}"))
    return violations


def score_request(
    message: pb.ScoreRequest, request_id: str, route: Route, deadline: float | None, max_context: int
) -> ScoreRequest:
    """The engine's request.

    Raises:
        InvalidRequest: there is nothing to score, or too much.
    """
    if not message.continuation:
        raise InvalidRequest.of("continuation", "is empty; send the text to score")
    if len(message.context) + len(message.continuation) > _most_chars(max_context):
        violation = _too_long("context", max_context)
        raise InvalidRequest.of(violation.field, f"and continuation: {violation.message}")
    return ScoreRequest(request_id, route.version, message.context, message.continuation, deadline)


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
