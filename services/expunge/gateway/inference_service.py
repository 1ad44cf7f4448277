"""InferenceService: generate, stream, score, list."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

from expunge.config import GuardReply
from expunge.errors import RefusedByPolicy
from expunge.gateway.admission import Admission
from expunge.gateway.call import current_call, current_caller
from expunge.gateway.chain import Context
from expunge.gateway.demand import Demand
from expunge.gateway.follower import Follower
from expunge.gateway.guards import Scope
from expunge.gateway.inference_messages import (
    AnyGenerate,
    finish_reason,
    generation_request,
    score_request,
    score_response,
)
from expunge.gateway.routing import Route
from expunge.gateway.running import REFUSAL, RunningRequest, RunningRequests
from expunge.gateway.upstream import EngineUpstream
from expunge.inference.request import FinishReason, TokenBatch, merge
from expunge.observability.metrics import GatewayMetrics
from expunge.rpc.inference.v1 import inference_pb2 as pb
from expunge.rpc.inference.v1 import inference_pb2_grpc as pb_grpc


class InferenceService(pb_grpc.InferenceServiceServicer):
    """Routes each request once, checks the guards, and passes on what the engine produces."""

    def __init__(
        self,
        engine: EngineUpstream,
        admission: Admission,
        follower: Follower,
        running: RunningRequests,
        metrics: GatewayMetrics,
        *,
        guard_reply: GuardReply,
        max_context: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._admission = admission
        self._follower = follower
        self._running = running
        self._metrics = metrics
        self._guard_reply = guard_reply
        self._max_context = max_context
        self._clock = clock

    async def Generate(self, request: pb.GenerateRequest, context: Context) -> pb.GenerateResponse:
        route = self._admission.route(request.alias)
        answer = _whole([batch async for batch in self._answer(request, context, route)])
        return pb.GenerateResponse(
            text=answer.text,
            version=route.version,
            generation=route.generation,
            finish_reason=finish_reason(answer.finish),
            usage=_usage(answer),
            request_id=current_call.get().request_id,
            alias=route.alias,
        )

    async def GenerateStream(
        self, request: pb.GenerateStreamRequest, context: Context
    ) -> AsyncIterator[pb.GenerateStreamResponse]:
        route = self._admission.route(request.alias)
        async with aclosing(self._answer(request, context, route)) as batches:
            async for batch in batches:
                yield pb.GenerateStreamResponse(
                    text=batch.text,
                    version=route.version,
                    generation=route.generation,
                    finish_reason=finish_reason(batch.finish),
                    usage=_usage(batch) if batch.finish is not None else None,
                    request_id=current_call.get().request_id,
                    alias=route.alias,
                    token_count=len(batch.token_ids),
                )

    async def Score(self, request: pb.ScoreRequest, context: Context) -> pb.ScoreResponse:
        call = current_call.get()
        route = self._admission.route(request.alias)
        asked = score_request(request, call.request_id, route, self._deadline(context), self._max_context)
        scope = Scope(request.context, continuation=request.continuation, passing=current_caller().passing)
        caller = current_caller()
        asked = replace(
            asked, client=caller.principal, priority=self._admission.priority(caller, asked.priority)
        )
        async with self._admission.admitted(caller, route, Demand.of_score(asked)):
            self._admission.check_guards(scope, call)
            async with self._entered(scope, route) as running:
                result = await running.outcome(self._engine.score(asked))
        return score_response(result, call.request_id, route)

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        rollouts = self._follower.view().rollouts
        return pb.ListModelsResponse(
            models=[
                pb.Model(
                    alias=alias,
                    generation=rollout.generation,
                    targets=[
                        pb.ModelTarget(version=target.version, weight=target.weight)
                        for target in rollout.targets
                    ],
                )
                for alias, rollout in sorted(rollouts.items())
            ]
        )

    async def _answer(
        self, message: AnyGenerate, context: Context, route: Route
    ) -> AsyncGenerator[TokenBatch, None]:
        """The batches of one answer; the last carries the finish reason."""
        call = current_call.get()
        deadline = self._deadline(context)
        asked = generation_request(message, call.request_id, route, deadline, self._max_context)
        scope = Scope(asked.prompt or "", messages=asked.messages, passing=current_caller().passing)
        caller = current_caller()
        asked = replace(
            asked, client=caller.principal, priority=self._admission.priority(caller, asked.priority)
        )
        try:
            async with self._admission.admitted(caller, route, Demand.of_generation(asked)) as admitted:
                self._admission.check_guards(scope, call)
                async with (
                    self._entered(scope, route) as running,
                    aclosing(running.batches(self._engine.generate(asked))) as batches,
                ):
                    async for batch in self._timed(batches, route):
                        admitted.produced(batch)
                        yield batch
        except RefusedByPolicy:
            if self._guard_reply is GuardReply.ERROR:
                raise
            yield TokenBatch(REFUSAL, (), route.version, FinishReason.REFUSED)

    @asynccontextmanager
    async def _entered(self, scope: Scope, route: Route) -> AsyncIterator[RunningRequest]:
        gauge = self._metrics.running.labels(route.alias, route.version)
        with gauge.track_inprogress(), self._running.entered(scope, route.version) as running:
            yield running

    async def _timed(self, batches: AsyncIterator[TokenBatch], route: Route) -> AsyncIterator[TokenBatch]:
        labels = (route.alias, route.version)
        last_at = time.perf_counter()
        is_first = True
        async for batch in batches:
            now = time.perf_counter()
            count = len(batch.token_ids)
            if count and is_first:
                self._metrics.first_token_seconds.labels(*labels).observe(now - last_at)
                is_first, last_at = False, now
            elif count:
                for _ in range(count):
                    self._metrics.inter_token_seconds.labels(*labels).observe((now - last_at) / count)
                last_at = now
            self._metrics.generation_tokens.labels(*labels).inc(count)
            if batch.finish is not None:
                self._metrics.prompt_tokens.labels(*labels).inc(batch.prompt_tokens)
            yield batch

    def _deadline(self, context: Context) -> float | None:
        left: float | None = context.time_remaining()
        return None if left is None else self._clock() + left


def _whole(batches: Sequence[TokenBatch]) -> TokenBatch:
    """A whole answer; of one that a guard stopped half way nothing remains but the refusal."""
    last = batches[-1]
    return last if last.finish is FinishReason.REFUSED else merge(batches)


def _usage(batch: TokenBatch) -> pb.Usage:
    return pb.Usage(prompt_tokens=batch.prompt_tokens, completion_tokens=batch.completion_tokens)
