"""The body of POST /v1/chat/completions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from expunge.errors import InvalidRequest
from expunge.gateway.answering import Asked
from expunge.gateway.call import Call
from expunge.gateway.generation_bounds import check_generation
from expunge.gateway.http.parameters import Parameters
from expunge.gateway.routing import Route
from expunge.inference.request import GenerationRequest, Message

DEFAULT_MAX_TOKENS = 256
_SYNONYMS = {"developer": "system"}


class TextPart(BaseModel):
    """A part of a turn; only text can be read here."""

    model_config = ConfigDict(extra="forbid", strict=True)
    type: Literal["text"]
    text: str


class Turn(BaseModel):
    """One turn of a conversation. What answers carry and is empty here may be sent back as it came."""

    model_config = ConfigDict(extra="forbid", strict=True)
    role: str
    content: str | list[TextPart]
    refusal: None = None
    audio: None = None
    function_call: None = None
    tool_calls: None = None
    annotations: list[Any] | None = None

    def message(self) -> Message:
        content = self.content
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        return Message(_SYNONYMS.get(self.role, self.role), text)


class ChatParameters(Parameters):
    """A conversation, put through the model's chat template."""

    messages: Sequence[Turn] = ()
    max_completion_tokens: int | None = None
    logprobs: bool = False
    top_logprobs: int | None = None
    continue_final_message: bool = False  # the last turn is the beginning of the answer

    def names(self) -> Mapping[str, str]:
        limit = "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens"
        return {"logprobs": "top_logprobs", "prompt": "messages", "max_tokens": limit}

    def asked(self, call: Call, route: Route, deadline: float | None, max_context: int) -> list[Asked]:
        if not self.messages:
            raise InvalidRequest.of("messages", "is empty; send the conversation")
        if self.top_logprobs is not None and not self.logprobs:
            raise InvalidRequest.of("top_logprobs", "needs logprobs to be true")
        if None not in (self.max_tokens, self.max_completion_tokens):
            raise InvalidRequest.of(
                "max_completion_tokens", "is max_tokens by its new name; send one of them"
            )
        limit = self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
        request = GenerationRequest(
            request_id=call.request_id,
            version=route.version,
            messages=tuple(turn.message() for turn in self.messages),
            max_tokens=min(DEFAULT_MAX_TOKENS, max_context - 1) if limit is None else limit,
            stop=self.stops(),
            sampling=self.sampling(),
            deadline=deadline,
            continue_final_message=self.continue_final_message,
            client=call.principal,
            priority=self.urgency(),
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
        )
        n = 1 if self.n is None else self.n
        check_generation(request, n, max_context)
        return [Asked(request, n)]
