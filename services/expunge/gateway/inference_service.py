"""InferenceService: generate, stream, score, list."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

from expunge.gateway.answering import Answering, Asked
from expunge.gateway.call import current_call
from expunge.gateway.chain import Context
from expunge.gateway.follower import Follower
from expunge.gateway.inference_messages import (
    AnyGenerate,
    asked_of,
    generate_chunk,
    generate_response,
    models_response,
    score_request,
    score_response,
)
from expunge.gateway.routing import Route
from expunge.rpc.inference.v1 import inference_pb2 as pb
from expunge.rpc.inference.v1 import inference_pb2_grpc as pb_grpc


class InferenceService(pb_grpc.InferenceServiceServicer):
    """Answering over gRPC.

    Args:
        max_context: prompt plus output tokens the service allows.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        answering: Answering,
        follower: Follower,
        *,
        max_context: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._answering = answering
        self._follower = follower
        self._max_context = max_context
        self._clock = clock

    async def Generate(self, request: pb.GenerateRequest, context: Context) -> pb.GenerateResponse:
        route = self._answering.route(request.alias)
        answers = await self._answering.whole_answers([self._asked(request, context, route)], route)
        return generate_response(answers, current_call.get().request_id, route)

    async def GenerateStream(
        self, request: pb.GenerateStreamRequest, context: Context
    ) -> AsyncIterator[pb.GenerateStreamResponse]:
        route = self._answering.route(request.alias)
        asked = self._asked(request, context, route)
        async with aclosing(self._answering.answers([asked], route)) as parts:
            async for part in parts:
                yield generate_chunk(part.index, part.batch, current_call.get().request_id, route)

    async def Score(self, request: pb.ScoreRequest, context: Context) -> pb.ScoreResponse:
        call = current_call.get()
        route = self._answering.route(request.alias)
        asked = score_request(request, call, route, self._deadline(context), self._max_context)
        return score_response(await self._answering.score(asked, route), call.request_id, route)

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        return models_response(self._follower.view().rollouts)

    def _asked(self, message: AnyGenerate, context: Context, route: Route) -> Asked:
        return asked_of(message, current_call.get(), route, self._deadline(context), self._max_context)

    def _deadline(self, context: Context) -> float | None:
        left: float | None = context.time_remaining()
        return None if left is None else self._clock() + left
