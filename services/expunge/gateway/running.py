"""Requests under way, so that a guard that arrives or a lease that ends can still stop them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from expunge.errors import ExpungeError, RefusedByPolicy, Unavailable
from expunge.gateway.guards import Guards, Scope
from expunge.gateway.interruption import ended, unless
from expunge.inference.request import TokenBatch, merge

T = TypeVar("T")

REFUSAL = "This request can't be answered because of a usage policy."


def refusal() -> RefusedByPolicy:
    """The neutral refusal; it does not tell that an erasure was asked for, or whom it is about."""
    return RefusedByPolicy(REFUSAL)


def draining() -> Unavailable:
    """What calls get that have outlived the grace of a gateway that leaves."""
    return Unavailable("the gateway is leaving; try again", reason="DRAINING", retry_after_s=1.0)


class RunningRequest:
    """One admitted request: hands on what the engine produces, until something stops it.

    Attributes:
        stopped_by: what stopped it, also after its last token, as long as its answer is not told.
    """

    def __init__(self, scope: Scope, version: str) -> None:
        self._scope = scope
        self._version = version
        self._answer: list[str] = []
        self._waiting: deque[TokenBatch] = deque()
        self._news = asyncio.Event()
        self.stopped_by: ExpungeError | None = None

    def refuse_if_in_scope(self, guards: Guards) -> str | None:
        """Stop this request if it, or its answer so far, is in scope; returns the erasure's id."""
        erasure_id = None if self.stopped_by else self._scope.matched_by(guards, "".join(self._answer))
        if erasure_id is not None:
            self.stop(refusal())
        return erasure_id

    def stop(self, error: ExpungeError) -> None:
        """End this request with `error`; what was produced and not yet handed on is dropped."""
        if self.stopped_by is None:
            self.stopped_by = error
            self._news.set()

    async def batches(self, source: AsyncIterator[TokenBatch]) -> AsyncGenerator[TokenBatch, None]:
        """The engine's batches; those that gather while the caller is busy sending come merged into one.

        Closing this iterator closes `source`, which frees the engine's row.

        Raises:
            RefusedByPolicy: a guard that arrived meanwhile has this request in its scope.
            Unavailable: the gateway's lease ran out, or the engine ended without a finish reason.
        """
        pump = asyncio.create_task(self._pump(source))
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                if self.stopped_by is not None:
                    raise self.stopped_by
                if self._waiting:
                    batch = self._merged()
                    yield batch
                    if batch.finish is not None:
                        return
                elif pump.done():
                    pump.result()
                    raise Unavailable("the engine ended the answer early; try again", reason="REPLICA_LOST")
                if self._waiting or self.stopped_by or pump.done():
                    self._news.set()
        finally:
            await ended(pump)

    async def outcome(self, work: Awaitable[T]) -> T:
        """What `work` returns, unless something stops it first.

        Raises:
            RefusedByPolicy: a guard that arrived meanwhile has this request in its scope.
            Unavailable: the gateway's lease ran out.
        """
        return await unless(self._news.wait(), work, self._cause)

    def _cause(self) -> ExpungeError:
        assert self.stopped_by is not None  # of a request that has no batches, only `stop` makes news
        return self.stopped_by

    async def _pump(self, source: AsyncIterator[TokenBatch]) -> None:
        try:
            async for batch in source:
                if batch.version != self._version:
                    raise ExpungeError(
                        f"the engine answered with version {batch.version} instead of {self._version}"
                    )
                self._answer.append(batch.text)
                self._waiting.append(batch)
                self._news.set()
        finally:
            close = getattr(source, "aclose", None)
            if close is not None:
                await close()
            self._news.set()

    def _merged(self) -> TokenBatch:
        batches = list(self._waiting)
        self._waiting.clear()
        return merge(batches)


class RunningRequests:
    """All requests under way in this gateway."""

    def __init__(self) -> None:
        self._running: set[RunningRequest] = set()

    @contextmanager
    def entered(self, scope: Scope, version: str) -> Iterator[RunningRequest]:
        request = RunningRequest(scope, version)
        self._running.add(request)
        try:
            yield request
        finally:
            self._running.discard(request)

    def refuse_in_scope(self, guards: Guards) -> list[str]:
        """Stop every request in scope of `guards`; returns the erasure id for each that was stopped."""
        found = (request.refuse_if_in_scope(guards) for request in tuple(self._running))
        return [erasure_id for erasure_id in found if erasure_id is not None]

    def stop_all(self, error: Callable[[], ExpungeError]) -> int:
        """End every request under way, each with an error of its own; returns how many."""
        running = tuple(self._running)
        for request in running:
            request.stop(error())
        return len(running)
