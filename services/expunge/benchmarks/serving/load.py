"""The load generator: sends what a plan says, closed loop or open, and notes when each token came."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from expunge.benchmarks.serving.plan import Ask, Plan, Response


@dataclass(frozen=True)
class Piece:
    """What arrived at once: `tokens` of them, and what the service said beside them (0 and "": nothing)."""

    tokens: int
    version: str = ""
    total_tokens: int = 0
    prompt_tokens: int = 0


class AskFailed(Exception):
    """A request that failed; the text says how."""


class Asker(Protocol):
    """Asks one service."""

    def ask(self, ask: Ask, timeout_s: float) -> AsyncGenerator[Piece, None]:
        """The answer as it comes.

        Raises:
            AskFailed: it failed, at once or part way.
        """

    async def close(self) -> None: ...


class Load:
    """Drives plans against one asker.

    Args:
        clock: monotonic seconds.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        asker: Asker,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._asker = asker
        self._clock = clock
        self._sleep = sleep

    async def run(self, plan: Plan) -> tuple[Response, ...]:
        """Sends every request of the plan and waits for all; the responses are in the order of the asks."""
        return await (self._keep_full(plan) if plan.streams else self._arrive(plan))

    async def flood(
        self, plan: Plan, over: Awaitable[object], begun: Callable[[], None]
    ) -> tuple[Response, ...]:
        """Sends the plan's requests again and again, in as many streams, until `over`.

        Whoever is refused asks again at once. What is under way at the end is broken off, and not among the
        responses.

        Args:
            begun: called once, when each stream has had its first token, or its first refusal.
        """
        waiting = itertools.cycle(plan.asks)
        responses: list[Response] = []
        unbegun = plan.streams

        def one_began() -> None:
            nonlocal unbegun
            unbegun -= 1
            if not unbegun:
                begun()

        async def one_stream() -> None:
            first = True
            for ask in waiting:
                responses.append(await self._ask(ask, plan.timeout_s, one_began if first else None))
                first = False
                await asyncio.sleep(0)

        streams = [asyncio.create_task(one_stream()) for _ in range(plan.streams)]
        try:
            await over
        finally:
            for stream in streams:
                stream.cancel()
            await asyncio.wait(streams)
        return tuple(responses)

    async def _keep_full(self, plan: Plan) -> tuple[Response, ...]:
        waiting = iter(enumerate(plan.asks))
        responses: dict[int, Response] = {}

        async def one_stream() -> None:
            for number, ask in waiting:
                responses[number] = await self._ask(ask, plan.timeout_s)

        await asyncio.gather(*(one_stream() for _ in range(plan.streams)))
        return tuple(responses[number] for number in range(len(plan.asks)))

    async def _arrive(self, plan: Plan) -> tuple[Response, ...]:
        """The times of sending are set beforehand: a late one does not push the later ones back."""
        running = []
        due = self._clock()
        for ask, gap in zip(plan.asks, plan.gaps_s, strict=True):
            due += gap
            await self._sleep(max(0.0, due - self._clock()))
            running.append(asyncio.create_task(self._ask(ask, plan.timeout_s)))
        return tuple(await asyncio.gather(*running))

    async def _ask(self, ask: Ask, timeout_s: float, begun: Callable[[], None] | None = None) -> Response:
        """Sends one request; `begun` is called at its first token, or where it fails before."""
        arrivals: list[tuple[float, int]] = []
        versions: dict[str, None] = {}
        total = prompt_tokens = 0
        error = ""
        sent = self._clock()
        try:
            async with aclosing(self._asker.ask(ask, timeout_s)) as pieces:
                async for piece in pieces:
                    if piece.tokens:
                        arrivals.append((self._clock(), piece.tokens))
                        if begun is not None and len(arrivals) == 1:
                            begun()
                    if piece.version:
                        versions[piece.version] = None
                    total = piece.total_tokens or total
                    prompt_tokens = piece.prompt_tokens or prompt_tokens
        except AskFailed as failure:
            error = str(failure)
        if begun is not None and not arrivals:
            begun()
        return Response(
            model=ask.model,
            sent=sent,
            done=self._clock(),
            arrivals=tuple(arrivals),
            tokens=total or sum(tokens for _, tokens in arrivals),
            prompt_tokens=prompt_tokens,
            versions=tuple(versions),
            error=error,
        )
