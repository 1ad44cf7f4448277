"""What is wrong with a request, field by field; every problem is reported together."""

from __future__ import annotations

import math

from expunge.errors import InvalidRequest, Violation
from expunge.inference.request import GenerationRequest, ScoreRequest

ROLES = ("system", "user", "assistant")
MAX_STOPS = 16
MAX_STOP_CHARACTERS = 256


def check_generation(request: GenerationRequest) -> None:
    """Refuse what can't be run.

    Raises:
        InvalidRequest: with one violation for each bad field.
    """
    _refuse([*_prompt(request), *_limits(request), *_sampling(request)])


def check_score(request: ScoreRequest) -> None:
    """Refuse an empty continuation.

    Raises:
        InvalidRequest: naming the field.
    """
    _refuse([] if request.continuation else [Violation("continuation", "is empty; give the text to score")])


def _prompt(request: GenerationRequest) -> list[Violation]:
    if (request.prompt is None) == (not request.messages):
        return [Violation("prompt", "give exactly one of `prompt` and `messages`")]
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


def _limits(request: GenerationRequest) -> list[Violation]:
    found = []
    if request.max_tokens < 1:
        found.append(Violation("max_tokens", f"is {request.max_tokens}; ask for at least 1"))
    if len(request.stop) > MAX_STOPS:
        found.append(Violation("stop", f"has {len(request.stop)} strings; at most {MAX_STOPS} are allowed"))
    found.extend(
        Violation(f"stop[{index}]", f"must have 1 to {MAX_STOP_CHARACTERS} characters")
        for index, stop in enumerate(request.stop)
        if not 1 <= len(stop) <= MAX_STOP_CHARACTERS
    )
    return found


def _sampling(request: GenerationRequest) -> list[Violation]:
    sampling, found = request.sampling, []
    if not (math.isfinite(sampling.temperature) and 0 <= sampling.temperature <= 100):
        found.append(Violation("sampling.temperature", "must lie between 0 (greedy) and 100"))
    if not 0 < sampling.top_p <= 1:
        found.append(Violation("sampling.top_p", "must be above 0 and at most 1"))
    if sampling.top_k < 0:
        found.append(Violation("sampling.top_k", "must be 0 (no limit) or more"))
    return found


def _refuse(violations: list[Violation]) -> None:
    if violations:
        raise InvalidRequest.of_all(violations)
