"""The body of POST /v1/completions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from expunge.errors import InvalidRequest
from expunge.gateway.answering import Asked
from expunge.gateway.call import Call
from expunge.gateway.generation_bounds import check_generation, check_told, logprobs_told
from expunge.gateway.http.parameters import Parameters
from expunge.gateway.routing import Route
from expunge.inference.request import GenerationRequest

DEFAULT_MAX_TOKENS = 16  # as in OpenAI's API
MAX_ANSWERS_OF_CALL = 64  # prompts times `n`
_MAX_TOKEN_ID = 2**32 - 1

Prompt = str | tuple[int, ...]


class CompletionParameters(Parameters):
    """Raw prompts, each a text or a list of token ids."""

    prompt: Any = None
    echo: bool = False
    logprobs: int | None = None

    def names(self) -> Mapping[str, str]:
        return {"prompt_tokens": "prompt"}

    def asked(self, call: Call, route: Route, deadline: float | None, max_context: int) -> list[Asked]:
        prompts = prompts_of(self.prompt)
        n = 1 if self.n is None else self.n
        if n > 0 and len(prompts) * n > MAX_ANSWERS_OF_CALL:
            asked_for = f"{len(prompts)} prompts with n={n}"
            raise InvalidRequest.of(
                "prompt", f"{asked_for} ask for more than {MAX_ANSWERS_OF_CALL} answers; send less"
            )
        tells_prompt = self.echo and self.logprobs is not None
        if tells_prompt and n > 1:
            raise InvalidRequest.of("n", "must be 1 where echo and logprobs are set together")
        asked = [
            self._one(place, prompt, n, call, route, deadline, max_context)
            for place, prompt in enumerate(prompts)
        ]
        check_told(sum(logprobs_told(one.request, n, max_context) for one in asked))
        return asked

    def _one(
        self,
        place: int,
        prompt: Prompt,
        n: int,
        call: Call,
        route: Route,
        deadline: float | None,
        max_context: int,
    ) -> Asked:
        request = GenerationRequest(
            request_id=call.request_id if place == 0 else f"{call.request_id}-p{place}",
            version=route.version,
            prompt=prompt if isinstance(prompt, str) else None,
            prompt_tokens=() if isinstance(prompt, str) else prompt,
            max_tokens=DEFAULT_MAX_TOKENS if self.max_tokens is None else self.max_tokens,
            stop=self.stops(),
            sampling=self.sampling(),
            deadline=deadline,
            client=call.principal,
            priority=self.urgency(),
            logprobs=self.logprobs,
            prompt_logprobs=self.echo and self.logprobs is not None,
        )
        check_generation(request, n, max_context)
        return Asked(request, n)


def prompts_of(value: object) -> list[Prompt]:
    """The prompts in the parameter `prompt`: a text, token ids, or a list of either.

    Raises:
        InvalidRequest: it is none of these, or empty.
    """
    if isinstance(value, str) and value:
        return [value]
    if not isinstance(value, list) or not value:
        raise InvalidRequest.of(
            "prompt", "must be a text, a list of token ids, or a list of these; not empty"
        )
    if all(_is_token_id(one) for one in value):
        return [tuple(value)]
    for place, one in enumerate(value):
        is_tokens = isinstance(one, list) and all(map(_is_token_id, one))
        if not one or not (isinstance(one, str) or is_tokens):
            raise InvalidRequest.of(f"prompt[{place}]", "must be a text or a list of token ids; not empty")
    return [one if isinstance(one, str) else tuple(one) for one in value]


def _is_token_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_TOKEN_ID
