"""What is wrong with a request, field by field; every problem is reported together."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice

from expunge.errors import InvalidRequest, Violation
from expunge.inference.request import GenerationRequest, Sampling, ScoreRequest

ROLES = ("system", "user", "assistant")
MAX_STOPS = 16
MAX_STOP_CHARACTERS = 256
MAX_LOGPROBS = 20
MAX_BIASES = 1024
MAX_BIAS = 100.0
MAX_PENALTY = 2.0  # presence and frequency, either sign
REPETITION_PENALTIES = (0.01, 10.0)
SEEDS = range(-(2**63), 2**64)  # 64 bits, signed or not
_NAMED_TOKENS = 10  # unknown token ids that are named, of each field


def check_generation(request: GenerationRequest, vocabulary: int) -> None:
    """Refuse what can't be run.

    Args:
        vocabulary: how many token ids the model knows; they count from 0.

    Raises:
        InvalidRequest: with one violation for each bad field.
    """
    _refuse(
        [
            *_prompt(request),
            *_unknown("prompt_tokens", request.prompt_tokens, vocabulary),
            *_limits(request),
            *_logprobs(request),
            *_sampling(request.sampling),
            *_penalties(request.sampling),
            *_bias(request.sampling, vocabulary),
        ]
    )


def check_score(request: ScoreRequest) -> None:
    """Refuse an empty continuation.

    Raises:
        InvalidRequest: naming the field.
    """
    _refuse([] if request.continuation else [Violation("continuation", "is empty; give the text to score")])


def _prompt(request: GenerationRequest) -> list[Violation]:
    given = [request.prompt is not None, bool(request.prompt_tokens), bool(request.messages)]
    if given.count(True) != 1:
        return [Violation("prompt", "give exactly one of `prompt`, `prompt_tokens` and `messages`")]
    if request.prompt == "":
        return [Violation("prompt", "is empty; give at least one character")]
    found = [
        Violation(f"messages[{index}].role", f"is {message.role!r}; use one of {', '.join(ROLES)}")
        for index, message in enumerate(request.messages)
        if message.role not in ROLES
    ]
    roles = [message.role for message in request.messages]
    if request.continue_final_message and (len(roles) < 2 or roles[-1] != "assistant"):
        found.append(
            Violation("continue_final_message", "needs messages that end with an assistant's turn to go on")
        )
    return found


def _unknown(field: str, tokens: Iterable[int], vocabulary: int) -> Iterator[Violation]:
    unknown = ((index, token) for index, token in enumerate(tokens) if not 0 <= token < vocabulary)
    for index, token in islice(unknown, _NAMED_TOKENS):
        yield Violation(f"{field}[{index}]", f"is {token}; the model has the token ids 0 to {vocabulary - 1}")


def _limits(request: GenerationRequest) -> list[Violation]:
    found = []
    least = 0 if request.prompt_logprobs else 1
    if request.max_tokens < least:
        found.append(Violation("max_tokens", f"is {request.max_tokens}; ask for at least {least}"))
    if len(request.stop) > MAX_STOPS:
        found.append(Violation("stop", f"has {len(request.stop)} strings; at most {MAX_STOPS} are allowed"))
    found.extend(
        Violation(f"stop[{index}]", f"must have 1 to {MAX_STOP_CHARACTERS} characters")
        for index, stop in enumerate(request.stop)
        if not 1 <= len(stop) <= MAX_STOP_CHARACTERS
    )
    if request.choice < 0:
        found.append(Violation("choice", f"is {request.choice}; count choices from 0"))
    return found


def _logprobs(request: GenerationRequest) -> list[Violation]:
    found = []
    if request.logprobs is not None and not 0 <= request.logprobs <= MAX_LOGPROBS:
        found.append(Violation("logprobs", f"is {request.logprobs}; ask for 0 to {MAX_LOGPROBS}"))
    if request.prompt_logprobs and request.logprobs is None:
        found.append(Violation("prompt_logprobs", "needs `logprobs`; set it to 0 or more"))
    return found


def _sampling(sampling: Sampling) -> list[Violation]:
    """Comparisons are written so that NaN fails them."""
    found = []
    if not (math.isfinite(sampling.temperature) and 0 <= sampling.temperature <= 100):
        found.append(Violation("sampling.temperature", "must lie between 0 (greedy) and 100"))
    if not 0 < sampling.top_p <= 1:
        found.append(Violation("sampling.top_p", "must be above 0 and at most 1"))
    if sampling.top_k < 0:
        found.append(Violation("sampling.top_k", "must be 0 (no limit) or more"))
    if not 0 <= sampling.min_p < 1:
        found.append(Violation("sampling.min_p", "must be 0 (no limit) or more, and below 1"))
    if sampling.seed is not None and sampling.seed not in SEEDS:
        found.append(Violation("sampling.seed", "must fit into 64 bits"))
    return found


def _penalties(sampling: Sampling) -> list[Violation]:
    least, most = REPETITION_PENALTIES
    found = []
    if not least <= sampling.repetition_penalty <= most:
        found.append(
            Violation("sampling.repetition_penalty", f"must lie between {least:g} and {most:g}; 1 is none")
        )
    for name in ("presence_penalty", "frequency_penalty"):
        if not -MAX_PENALTY <= getattr(sampling, name) <= MAX_PENALTY:
            found.append(
                Violation(f"sampling.{name}", f"must lie between -{MAX_PENALTY:g} and {MAX_PENALTY:g}")
            )
    return found


def _bias(sampling: Sampling, vocabulary: int) -> list[Violation]:
    field, biases = "sampling.logit_bias", sampling.logit_bias
    if len(biases) > MAX_BIASES:
        return [Violation(field, f"has {len(biases)} entries; at most {MAX_BIASES} are allowed")]
    tokens = [token for token, _ in biases]
    found = [
        Violation(f"{field}[{token}]", f"names no token; the model has the ids 0 to {vocabulary - 1}")
        for token in tokens
        if not 0 <= token < vocabulary
    ]
    found.extend(
        Violation(f"{field}[{token}]", f"must lie between -{MAX_BIAS:g} and {MAX_BIAS:g}")
        for token, bias in biases
        if not -MAX_BIAS <= bias <= MAX_BIAS
    )
    found.extend(
        Violation(f"{field}[{token}]", "is given more than once")
        for token, times in Counter(tokens).items()
        if times > 1
    )
    return found


def _refuse(violations: list[Violation]) -> None:
    if violations:
        raise InvalidRequest.of_all(violations)
