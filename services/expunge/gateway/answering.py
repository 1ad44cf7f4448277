"""Answering: what every request for text goes through, whichever way it came."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

from expunge.config import GuardReply
from expunge.errors import ExpungeError, RefusedByPolicy
from expunge.gateway.admission import Admission, Admitted
from expunge.gateway.call import current_call, current_caller
from expunge.gateway.demand import Demand
from expunge.gateway.guards import Scope
from expunge.gateway.outcomes import Outcomes
from expunge.gateway.routing import Route
from expunge.gateway.running import REFUSAL, RunningRequest, RunningRequests
from expunge.gateway.scopes import ScopeReader
from expunge.gateway.tokens import Caller
from expunge.gateway.upstream import EngineUpstream
from expunge.inference.request import (
    FinishReason,
    GenerationRequest,
    ScoreRequest,
    ScoreResult,
    TokenBatch,
    merge,
)
from expunge.observability.metrics import GatewayMetrics

T = TypeVar("T")


@dataclass(frozen=True)
class Asked:
    """One prompt, routed and checked, to be answered `n` times."""

    request: GenerationRequest
    n: int = 1

    def requests(self) -> list[GenerationRequest]:
        """One for each answer. The prompt's own log-probabilities are told once."""
        return [
            self.request
            if choice == 0
            else replace(
                self.request,
                request_id=f"{self.request.request_id}-{choice}",
                choice=choice,
                prompt_logprobs=False,
            )
            for choice in range(self.n)
        ]


@dataclass(frozen=True)
class Part:
    """Some more of one of a call's answers; `index` counts through all prompts and their `n` answers."""

    index: int
    batch: TokenBatch


class Answering:
    """Routes each call once, checks the guards, and hands on what the engine produces."""

    def __init__(
        self,
        engine: EngineUpstream,
        admission: Admission,
        running: RunningRequests,
        scopes: ScopeReader,
        metrics: GatewayMetrics,
        outcomes: Outcomes,
        *,
        guard_reply: GuardReply,
    ) -> None:
        self._engine = engine
        self._admission = admission
        self._scopes = scopes
        self._running = running
        self._metrics = metrics
        self._guard_reply = guard_reply
        self._outcomes = outcomes

    def route(self, alias: str) -> Route:
        """The version for the current call, from its first token to its last; "" is the default alias.

        Raises:
            Unavailable: the lease has run out.
            NotFound: no such alias.
        """
        return self._admission.route(alias)

    async def answers(self, asked: Sequence[Asked], route: Route) -> AsyncGenerator[Part, None]:
        """All answers of the current call as they grow, interleaved; each ends with a finish reason.

        Raises:
            InvalidRequest: a token id stands for nothing.
            RefusedByPolicy: a prompt is in scope of a guard, and refusals are errors.
            Overloaded: a quota or the gateway's bound is reached, the deadline can't be met, or the engine
                takes no more.
            Unavailable: the engine was lost.
        """
        async with self._begun(asked, route) as (running, batches):
            async for index, batch in batches:
                stopped_by = running[index].stopped_by
                if stopped_by is None:
                    yield Part(index, batch)
                elif batch.finish is not None:  # else its source will tell of the end
                    yield Part(index, self._ending(stopped_by, route))

    async def whole_answers(self, asked: Sequence[Asked], route: Route) -> list[TokenBatch]:
        """All answers of the current call, whole and in order; raises as `answers`.

        Of one that a guard stopped nothing remains but the refusal, also where it was complete and waited
        for the others.
        """
        async with self._begun(asked, route) as (running, batches):
            found: list[list[TokenBatch]] = [[] for _ in running]
            async for index, batch in batches:
                found[index].append(batch)
            return [
                self._ending(one.stopped_by, route) if one.stopped_by else merge(told)
                for one, told in zip(running, found, strict=True)
            ]

    async def score(self, asked: ScoreRequest, route: Route) -> ScoreResult:
        """The scores of one text; raises as `answers`."""
        caller = current_caller()
        scope = await self._scopes.of_score(asked, caller.passing)
        asked = replace(asked, priority=self._admission.priority(caller, asked.priority))
        async with self._admission.admitted(caller, route, Demand.of_score(asked)):
            self._admission.check_guards(scope, current_call.get())
            with self._entered(scope, route) as running:
                return await running.outcome(self._outcomes.awaited(self._engine.score(asked), route))

    @asynccontextmanager
    async def _begun(
        self, asked: Sequence[Asked], route: Route
    ) -> AsyncIterator[tuple[Sequence[RunningRequest], AsyncIterator[tuple[int, TokenBatch]]]]:
        """Every answer of the current call, registered as running until all are told, and their batches.

        Raises as `answers`.
        """
        caller = current_caller()
        scopes = [await self._scopes.of_generation(one.request, caller.passing) for one in asked]
        requests = [[self._granted(caller, request) for request in one.requests()] for one in asked]
        demand = Demand.of_generations([request for each in requests for request in each])
        running: list[RunningRequest] = []
        sources: list[AsyncGenerator[TokenBatch, None]] = []
        async with self._admission.admitted(caller, route, demand) as admitted, AsyncExitStack() as stack:
            for each, scope in zip(requests, scopes, strict=True):
                if sources:
                    await asyncio.sleep(0)  # guards take their time over long prompts: others go in between
                # No await from the check to `entered`: a guard that came between them would be missed.
                is_refused = self._is_refused(scope)
                for request in each:
                    running.append(stack.enter_context(self._entered(scope, route)))
                    source = _refused(route) if is_refused else self._answer(request, running[-1], route)
                    sources.append(source)
            batches = await stack.enter_async_context(aclosing(_metered(interleaved(sources), admitted)))
            yield running, batches

    def _ending(self, stopped_by: ExpungeError, route: Route) -> TokenBatch:
        """How an answer ends that was stopped.

        Raises:
            ExpungeError: `stopped_by`, unless it is a refusal and refusals are told as text.
        """
        if isinstance(stopped_by, RefusedByPolicy) and self._guard_reply is not GuardReply.ERROR:
            return _refusal_of(route)
        raise stopped_by

    def _granted(self, caller: Caller, request: GenerationRequest) -> GenerationRequest:
        """The request with no higher priority than its caller may have."""
        return replace(request, priority=self._admission.priority(caller, request.priority))

    def _is_refused(self, scope: Scope) -> bool:
        """Whether a guard covers the prompt and the answer is to say so.

        Raises:
            RefusedByPolicy: a guard covers it, and refusals are errors.
        """
        try:
            self._admission.check_guards(scope, current_call.get())
        except RefusedByPolicy:
            if self._guard_reply is GuardReply.ERROR:
                raise
            return True
        return False

    async def _answer(
        self, request: GenerationRequest, running: RunningRequest, route: Route
    ) -> AsyncGenerator[TokenBatch, None]:
        """The batches of one answer; the last carries the finish reason."""
        try:
            answer = self._outcomes.watched(self._engine.generate(request), route)
            async with aclosing(running.batches(answer)) as batches:
                async for batch in self._timed(batches, route):
                    yield batch
        except RefusedByPolicy as error:  # by a guard that came meanwhile
            yield self._ending(error, route)

    @contextmanager
    def _entered(self, scope: Scope, route: Route) -> Iterator[RunningRequest]:
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


async def interleaved(sources: Sequence[AsyncGenerator[T, None]]) -> AsyncGenerator[tuple[int, T], None]:
    """Items of all sources as they come, each with its source's index.

    A source is asked for its next item once its last one was taken. All are closed at the end, and at the
    first error of any.
    """
    if len(sources) == 1:  # the ordinary case costs no task
        async with aclosing(sources[0]) as only:
            async for item in only:
                yield 0, item
        return
    asking = {asyncio.ensure_future(anext(source)): index for index, source in enumerate(sources)}
    try:
        while asking:
            done, _ = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
            for task in sorted(done, key=asking.__getitem__):
                index = asking[task]
                try:
                    item = task.result()
                except StopAsyncIteration:
                    del asking[task]
                    continue
                yield index, item
                del asking[task]
                asking[asyncio.ensure_future(anext(sources[index]))] = index
    finally:
        for task in asking:
            task.cancel()
        if asking:
            await asyncio.wait(asking)
        for source in sources:
            await source.aclose()


async def _metered(
    batches: AsyncGenerator[tuple[int, TokenBatch], None], admitted: Admitted
) -> AsyncGenerator[tuple[int, TokenBatch], None]:
    """`batches`, each counted as used, whether it is told or not."""
    async with aclosing(batches):
        async for index, batch in batches:
            admitted.produced(batch)
            yield index, batch


async def _refused(route: Route) -> AsyncGenerator[TokenBatch, None]:
    yield _refusal_of(route)


def _refusal_of(route: Route) -> TokenBatch:
    return TokenBatch(REFUSAL, (), route.version, FinishReason.REFUSED)
