"""What a request to generate or score may ask for. Every bad field is named, as the gRPC messages name it."""

from __future__ import annotations

from collections.abc import Iterator

from expunge.errors import InvalidRequest, Violation
from expunge.inference.request import GenerationRequest, Sampling, ScoreRequest
from expunge.inference.validation import (
    MAX_BIAS,
    MAX_BIASES,
    MAX_LOGPROBS,
    MAX_PENALTY,
    REPETITION_PENALTIES,
    ROLES,
)

DEFAULT_MAX_TOKENS = 128
MAX_ANSWERS = 8  # to one prompt
MAX_STOPS = 8
MAX_STOP_CHARS = 128
MAX_TEMPERATURE = 2.0
MAX_TOP_K = 2**20
MAX_TOLD = 2**18  # log-probabilities in the answers to one call; each costs memory and time to tell
CHARS_PER_TOKEN = 16  # longer texts than this times the context are refused before anything reads them


def check_generation(request: GenerationRequest, n: int, max_context: int) -> None:
    """Refuse what is out of bounds.

    Args:
        n: answers asked for.
        max_context: prompt plus output tokens the service allows.

    Raises:
        InvalidRequest: naming every bad field.
    """
    violations = [
        *_input(request, max_context),
        *_amounts(request, n, max_context),
        *_stops(request),
        *_sampling(request.sampling),
        *_biases(request.sampling),
    ]
    if violations:
        raise InvalidRequest.of_all(violations)
    check_told(logprobs_told(request, n, max_context))


def check_score(request: ScoreRequest, max_context: int) -> None:
    """Refuse what is out of bounds.

    Raises:
        InvalidRequest: there is nothing to score, or too much.
    """
    if not request.continuation:
        raise InvalidRequest.of("continuation", "is empty; send the text to score")
    if len(request.context) + len(request.continuation) > _most_chars(max_context):
        violation = _too_long("context", max_context)
        raise InvalidRequest.of(violation.field, f"and continuation: {violation.message}")


def check_told(count: int) -> None:
    """Refuse a call that asks for more than `MAX_TOLD` log-probabilities in all.

    Raises:
        InvalidRequest: naming the field.
    """
    if count > MAX_TOLD:
        raise InvalidRequest.of(
            "logprobs", f"would tell up to {count:,}, at most {MAX_TOLD:,} are told; ask for fewer"
        )


def logprobs_told(request: GenerationRequest, n: int, max_context: int) -> int:
    """Log-probabilities that `n` answers tell at most, those of the likeliest tokens included."""
    if request.logprobs is None:
        return 0
    prompt = 0
    if request.prompt_logprobs:  # a token has at least a byte; a chat template adds tokens of its own
        text = len(request.prompt.encode()) if request.prompt else max_context
        prompt = len(request.prompt_tokens) or text
    places = min(prompt + request.max_tokens, max_context) + (n - 1) * request.max_tokens
    return places * (1 + request.logprobs)


def _input(request: GenerationRequest, max_context: int) -> Iterator[Violation]:
    inputs = (request.prompt, request.prompt_tokens, request.messages)
    if sum(map(bool, inputs)) != 1:
        yield Violation("prompt", "set exactly one of prompt, prompt_tokens and messages, and not to nothing")
        return
    if len(request.prompt or "") > _most_chars(max_context):
        yield _too_long("prompt", max_context)
    if len(request.messages) > max_context:  # each takes a token at least
        count = f"{len(request.messages):,}"
        yield Violation("messages", f"are {count}; at most {max_context:,} fit, leave some out")
        return
    if sum(len(turn.content) for turn in request.messages) > _most_chars(max_context):
        yield _too_long("messages", max_context)
    if len(request.prompt_tokens) > max_context:
        count = f"{len(request.prompt_tokens):,}"
        yield Violation("prompt_tokens", f"are {count}; at most {max_context:,} fit, shorten the prompt")
    yield from _turns(request)


def _turns(request: GenerationRequest) -> Iterator[Violation]:
    for index, turn in enumerate(request.messages):
        if turn.role not in ROLES:
            yield Violation(f"messages[{index}].role", f"must be one of {', '.join(ROLES)}")
    last = request.messages[-1].role if request.messages else ""
    if request.continue_final_message and (last != "assistant" or len(request.messages) < 2):
        yield Violation("continue_final_message", "needs messages that end with the assistant's turn")
    elif last not in ("", "user") and not request.continue_final_message:
        yield Violation(
            "messages",
            "must end with a user's turn, or with the assistant's and continue_final_message set",
        )


def _amounts(request: GenerationRequest, n: int, max_context: int) -> Iterator[Violation]:
    least = 0 if request.prompt_logprobs else 1
    if not least <= request.max_tokens < max_context:
        yield Violation("max_tokens", f"must be from {least} to {max_context - 1}")
    if not 1 <= n <= MAX_ANSWERS:
        yield Violation("n", f"must be from 1 to {MAX_ANSWERS}")
    elif n > 1 and not request.max_tokens:
        yield Violation("n", "must be 1 where max_tokens is 0: there is nothing to choose")
    if request.logprobs is not None and not 0 <= request.logprobs <= MAX_LOGPROBS:
        yield Violation("logprobs", f"must be from 0 to {MAX_LOGPROBS}")
    if request.prompt_logprobs and request.logprobs is None:
        yield Violation("prompt_logprobs", "needs logprobs to be set, too")


def _stops(request: GenerationRequest) -> Iterator[Violation]:
    if len(request.stop) > MAX_STOPS:
        yield Violation("stop", f"has {len(request.stop)} entries; at most {MAX_STOPS} are allowed")
        return
    for index, stop in enumerate(request.stop):
        if not 1 <= len(stop) <= MAX_STOP_CHARS:
            yield Violation(f"stop[{index}]", f"must have 1 to {MAX_STOP_CHARS} characters")


def _sampling(sampling: Sampling) -> Iterator[Violation]:
    """Written so that NaN is out of every bound."""
    if not 0 <= sampling.temperature <= MAX_TEMPERATURE:
        yield Violation("sampling.temperature", f"must be from 0 to {MAX_TEMPERATURE:g}")
    if not 0 < sampling.top_p <= 1:
        yield Violation("sampling.top_p", "must be above 0 and at most 1")
    if not 0 <= sampling.top_k <= MAX_TOP_K:
        yield Violation("sampling.top_k", f"must be from 0 (no limit) to {MAX_TOP_K}")
    if not 0 <= sampling.min_p < 1:
        yield Violation("sampling.min_p", "must be at least 0 and below 1")
    least, most = REPETITION_PENALTIES
    if not least <= sampling.repetition_penalty <= most:
        yield Violation("sampling.repetition_penalty", f"must be from {least:g} to {most:g}")
    for name in ("presence_penalty", "frequency_penalty"):
        if not -MAX_PENALTY <= getattr(sampling, name) <= MAX_PENALTY:
            yield Violation(f"sampling.{name}", f"must be from -{MAX_PENALTY:g} to {MAX_PENALTY:g}")


def _biases(sampling: Sampling) -> Iterator[Violation]:
    biases = sampling.logit_bias
    if len(biases) > MAX_BIASES:
        yield Violation("sampling.logit_bias", f"has {len(biases)} entries; at most {MAX_BIASES} are allowed")
        return
    for token, bias in biases:
        if not (0 <= token < 2**32 and -MAX_BIAS <= bias <= MAX_BIAS):
            bounds = f"from -{MAX_BIAS:g} to {MAX_BIAS:g}"
            yield Violation(f"sampling.logit_bias[{token}]", f"must be a token id with a bias {bounds}")


def _most_chars(max_context: int) -> int:
    """What can't fit the context must not keep the guards, and with them every other request, busy."""
    return CHARS_PER_TOKEN * max_context


def _too_long(field: str, max_context: int) -> Violation:
    return Violation(
        field, f"has more than {_most_chars(max_context):,} characters, which can't fit; shorten it"
    )
