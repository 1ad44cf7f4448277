"""The OpenAI-compatible API: models, completions, chat completions."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from expunge.errors import InvalidRequest, NotFound
from expunge.gateway.answering import Answering, Asked, Part
from expunge.gateway.call import Call
from expunge.gateway.follower import Follower
from expunge.gateway.http.body import json_object
from expunge.gateway.http.calls import HttpCalls
from expunge.gateway.http.chat_answer import ChatChoices
from expunge.gateway.http.chat_request import ChatParameters
from expunge.gateway.http.completion_answer import CompletionChoices
from expunge.gateway.http.completion_request import CompletionParameters
from expunge.gateway.http.envelope import Envelope, Json, UsageCount
from expunge.gateway.http.event_stream import DONE, EventStream, event, unless_gone
from expunge.gateway.http.parameters import Parameters, named_as_sent
from expunge.gateway.prompt_tokens import TokenReader
from expunge.gateway.routing import Route
from expunge.inference.request import TokenBatch
from expunge.registry.records import Rollout

_SERVICE = "/expunge.inference.v1.InferenceService/"
GENERATE, STREAM, LIST = (_SERVICE + name for name in ("Generate", "GenerateStream", "ListModels"))
TIMEOUT_HEADER = "x-request-timeout"  # seconds that the answer may take, where the caller sets a limit

ToChoice = Callable[[int, TokenBatch], Json]


@dataclass(frozen=True)
class _Reply:
    """How the answers to one call are told."""

    parameters: Parameters
    asked: Sequence[Asked]
    envelope: Envelope
    to_choice: ToChoice

    @property
    def answers(self) -> int:
        return sum(one.n for one in self.asked)

    def usage(self) -> UsageCount:
        return UsageCount(self.asked[0].n)


class InferenceApi:
    """Answering over HTTP.

    Args:
        max_context: prompt plus output tokens the service allows.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        answering: Answering,
        follower: Follower,
        token_reader: TokenReader,
        calls: HttpCalls,
        *,
        max_context: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._answering = answering
        self._follower = follower
        self._token_reader = token_reader
        self._calls = calls
        self._max_context = max_context
        self._clock = clock

    async def models(self, request: Request) -> Response:
        """GET /v1/models: the aliases."""

        async def work(call: Call, stack: AsyncExitStack) -> Response:
            rollouts = self._follower.view().rollouts
            listed = [_model(rollout) for _, rollout in sorted(rollouts.items())]
            return JSONResponse({"object": "list", "data": listed})

        return await self._calls.answered(request, LIST, work)

    async def model(self, request: Request) -> Response:
        """GET /v1/models/{model}: one alias."""

        async def work(call: Call, stack: AsyncExitStack) -> Response:
            alias = request.path_params["model"]
            rollout = self._follower.view().rollouts.get(alias)
            if rollout is None:
                raise NotFound(f"alias {alias!r} does not exist; GET /v1/models names those that do")
            return JSONResponse(_model(rollout))

        return await self._calls.answered(request, LIST, work)

    async def completions(self, request: Request) -> Response:
        """POST /v1/completions: raw prompts, continued."""

        async def work(call: Call, stack: AsyncExitStack) -> Response:
            parameters = CompletionParameters.of(await json_object(request))
            with named_as_sent(parameters):
                route, asked = self._asked(request, parameters, call)
                echoed = [await self._text(one) for one in asked] if parameters.echo else None
                choices = CompletionChoices(echoed, asked[0].n, with_logprobs=parameters.logprobs is not None)
                envelope = self._envelope(f"cmpl-{call.request_id}", "text_completion", route)
                reply = _Reply(parameters, asked, envelope, choices.choice)
                return await self._respond(request, reply, call, stack)

        return await self._calls.answered(request, GENERATE, work)

    async def chat_completions(self, request: Request) -> Response:
        """POST /v1/chat/completions: a conversation, answered."""

        async def work(call: Call, stack: AsyncExitStack) -> Response:
            parameters = ChatParameters.of(await json_object(request))
            with named_as_sent(parameters):
                route, asked = self._asked(request, parameters, call)
                choices = ChatChoices(with_logprobs=parameters.logprobs)
                kind = "chat.completion.chunk" if parameters.stream else "chat.completion"
                envelope = self._envelope(f"chatcmpl-{call.request_id}", kind, route)
                to_choice = choices.delta if parameters.stream else choices.whole
                reply = _Reply(parameters, asked, envelope, to_choice)
                return await self._respond(request, reply, call, stack)

        return await self._calls.answered(request, GENERATE, work)

    def _asked(self, request: Request, parameters: Parameters, call: Call) -> tuple[Route, list[Asked]]:
        if parameters.stream:
            self._calls.renamed(call, STREAM)
        try:
            route = self._answering.route(parameters.model)
        except NotFound as error:
            raise NotFound(error.message, reason="MODEL_NOT_FOUND") from error
        deadline = self._deadline(request.headers.get(TIMEOUT_HEADER))
        return route, parameters.asked(call, route, deadline, self._max_context)

    def _deadline(self, seconds: str | None) -> float | None:
        if seconds is None:
            return None
        try:
            left = float(seconds)
        except ValueError:
            left = 0.0
        if not 0 < left < float("inf"):
            raise InvalidRequest.of(TIMEOUT_HEADER, "must be a number of seconds above 0")
        return self._clock() + left

    def _envelope(self, answer_id: str, kind: str, route: Route) -> Envelope:
        return Envelope(answer_id, kind, int(self._clock()), route)

    async def _text(self, asked: Asked) -> str:
        tokens = asked.request.prompt_tokens
        return await self._token_reader.text(tokens) if tokens else asked.request.prompt or ""

    async def _respond(self, request: Request, reply: _Reply, call: Call, stack: AsyncExitStack) -> Response:
        if not reply.parameters.stream:
            whole = self._answering.whole_answers(reply.asked, reply.envelope.route)
            return JSONResponse(_whole(reply, await unless_gone(request.receive, whole)))
        parts = self._answering.answers(reply.asked, reply.envelope.route)
        stack.push_async_callback(parts.aclose)
        first = await unless_gone(
            request.receive, anext(parts)
        )  # until then an error has a status of its own
        return EventStream(self._events(first, parts, reply, call), {})

    async def _events(
        self, first: Part, rest: AsyncGenerator[Part, None], reply: _Reply, call: Call
    ) -> AsyncGenerator[bytes, None]:
        usage = reply.usage()
        empty = {"usage": None} if reply.parameters.includes_usage else {}
        try:
            yield event(reply.envelope.around([_choice(first, reply, usage)], **empty))
            async for part in rest:
                yield event(reply.envelope.around([_choice(part, reply, usage)], **empty))
        except Exception as error:
            yield self._calls.last_event(error, call)
            return
        if reply.parameters.includes_usage:
            yield event(reply.envelope.around([], usage=usage.to_json()))
        yield DONE


def _choice(part: Part, reply: _Reply, usage: UsageCount) -> Json:
    if part.batch.finish is not None:
        usage.add(part.index, part.batch)
    return reply.to_choice(part.index, part.batch)


def _whole(reply: _Reply, batches: Sequence[TokenBatch]) -> Json:
    usage = reply.usage()
    choices = [_choice(Part(index, batch), reply, usage) for index, batch in enumerate(batches)]
    return reply.envelope.around(choices, usage=usage.to_json())


def _model(rollout: Rollout) -> Json:
    """An alias; what it points at is beyond OpenAI's fields."""
    return {
        "id": rollout.alias,
        "object": "model",
        "created": int(rollout.committed_at),
        "owned_by": "expunge",
        "generation": rollout.generation,
        "targets": [{"version": target.version, "weight": target.weight} for target in rollout.targets],
    }
