"""What the service answers: plain frozen records, made from its messages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from expunge.rpc.inference.v1 import inference_pb2 as pb


class FinishReason(StrEnum):
    """Why an answer ended."""

    STOP = "stop"  # the model ended it, or a stop string was met
    LENGTH = "length"  # max_tokens, or the model's context, is used up
    CANCELLED = "cancelled"
    DEADLINE = "deadline"
    REFUSED = "refused"  # by policy, where the service answers refusals as text
    OTHER = "other"  # a reason that a newer service knows


_FINISH = {
    pb.FINISH_REASON_STOP: FinishReason.STOP,
    pb.FINISH_REASON_LENGTH: FinishReason.LENGTH,
    pb.FINISH_REASON_CANCELLED: FinishReason.CANCELLED,
    pb.FINISH_REASON_DEADLINE: FinishReason.DEADLINE,
    pb.FINISH_REASON_REFUSED: FinishReason.REFUSED,
}


@dataclass(frozen=True)
class Usage:
    """Tokens of one call; the end-of-sequence token does not count."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class TokenLogprob:
    """One token and the natural logarithm of its probability, before temperature, penalties and bias.

    Attributes:
        logprob: None for a prompt's first token, before which there is nothing.
        likeliest: the likeliest tokens at its place, best first; these have none of their own.
    """

    token_id: int
    text: str
    logprob: float | None
    likeliest: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class Choice:
    """One answer among several."""

    text: str
    finish_reason: FinishReason
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class Answer:
    """A whole answer, and where it comes from.

    Attributes:
        version: id of the version that generated all of it.
        generation: of the alias's rollout, when the request was admitted.
        request_id: as in the service's logs.
        alias: the alias that was resolved.
        logprobs: the generated tokens, where they were asked for.
        prompt_logprobs: the prompt's tokens, where they were asked for.
        more_choices: the second and further answers; `usage` counts them, too.
    """

    text: str
    version: str
    generation: int
    finish_reason: FinishReason
    usage: Usage
    request_id: str
    alias: str
    logprobs: tuple[TokenLogprob, ...] = ()
    prompt_logprobs: tuple[TokenLogprob, ...] = ()
    more_choices: tuple[Choice, ...] = ()

    @property
    def choices(self) -> tuple[Choice, ...]:
        """All answers, this one first."""
        return (Choice(self.text, self.finish_reason, self.logprobs), *self.more_choices)

    @classmethod
    def of(cls, message: pb.GenerateResponse) -> Answer:
        return cls(
            text=message.text,
            version=message.version,
            generation=message.generation,
            finish_reason=_finish_reason(message.finish_reason),
            usage=_usage(message.usage),
            request_id=message.request_id,
            alias=message.alias,
            logprobs=_logprobs(message.logprobs),
            prompt_logprobs=_logprobs(message.prompt_logprobs),
            more_choices=tuple(
                Choice(one.text, _finish_reason(one.finish_reason), _logprobs(one.logprobs))
                for one in message.more_choices
            ),
        )


@dataclass(frozen=True)
class Chunk:
    """Some more text of a running answer. All chunks of one stream name the same version and generation.

    Attributes:
        finish_reason, usage: of an answer's last chunk only.
        token_count: tokens in this chunk.
        index: which of `n` answers it belongs to, from 0.
    """

    text: str
    version: str
    generation: int
    finish_reason: FinishReason | None
    usage: Usage | None
    request_id: str
    alias: str
    token_count: int
    index: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()
    prompt_logprobs: tuple[TokenLogprob, ...] = ()

    @classmethod
    def of(cls, message: pb.GenerateStreamResponse) -> Chunk:
        is_last = message.finish_reason != pb.FINISH_REASON_UNSPECIFIED
        return cls(
            text=message.text,
            version=message.version,
            generation=message.generation,
            finish_reason=_finish_reason(message.finish_reason) if is_last else None,
            usage=_usage(message.usage) if message.HasField("usage") else None,
            request_id=message.request_id,
            alias=message.alias,
            token_count=message.token_count,
            index=message.index,
            logprobs=_logprobs(message.logprobs),
            prompt_logprobs=_logprobs(message.prompt_logprobs),
        )


@dataclass(frozen=True)
class TokenScore:
    """One token of a scored text; `logprob` is a natural logarithm."""

    token_id: int
    text: str
    logprob: float
    is_greedy: bool


@dataclass(frozen=True)
class Score:
    """The log-likelihood of a text, in all and by token.

    Attributes:
        is_greedy: greedy decoding would write exactly this text.
    """

    logprob: float
    is_greedy: bool
    tokens: tuple[TokenScore, ...]
    version: str
    generation: int
    request_id: str
    alias: str

    @classmethod
    def of(cls, message: pb.ScoreResponse) -> Score:
        return cls(
            logprob=message.logprob,
            is_greedy=message.is_greedy,
            tokens=tuple(
                TokenScore(token.token_id, token.text, token.logprob, token.is_greedy)
                for token in message.tokens
            ),
            version=message.version,
            generation=message.generation,
            request_id=message.request_id,
            alias=message.alias,
        )


@dataclass(frozen=True)
class ModelTarget:
    """One version an alias points at, and its share of callers in percent."""

    version: str
    weight: int


@dataclass(frozen=True)
class Model:
    """One alias and what it points at."""

    alias: str
    generation: int
    targets: tuple[ModelTarget, ...]

    @classmethod
    def of(cls, message: pb.Model) -> Model:
        targets = tuple(ModelTarget(target.version, target.weight) for target in message.targets)
        return cls(message.alias, message.generation, targets)


def _finish_reason(value: pb.FinishReason.ValueType) -> FinishReason:
    return _FINISH.get(value, FinishReason.OTHER)


def _usage(message: pb.Usage) -> Usage:
    return Usage(message.prompt_tokens, message.completion_tokens)


def _logprobs(messages: Iterable[pb.TokenLogprob]) -> tuple[TokenLogprob, ...]:
    return tuple(
        TokenLogprob(
            token_id=message.token_id,
            text=message.text,
            logprob=message.logprob if message.HasField("logprob") else None,
            likeliest=_logprobs(message.likeliest),
        )
        for message in messages
    )
