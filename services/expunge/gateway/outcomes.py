"""Outcomes: how the requests of each version end, for metrics and for canaries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import TypeVar

import grpc

from expunge.errors import ExpungeError, VersionNotStaged
from expunge.gateway.errors import code_of
from expunge.gateway.routing import Route
from expunge.inference.request import FinishReason, TokenBatch
from expunge.observability.metrics import GatewayMetrics
from expunge.registry.canary import CONDUCTOR
from expunge.registry.records import Outcome, Rollout

T = TypeVar("T")

# The service's own failures; the others are mistakes of the caller, quotas, and deadlines.
_FAILURES = (
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DATA_LOSS,
)


class Outcomes:
    """Counts what engines answered, by alias and version.

    Requests that nobody waited for to the end, because the caller left or a guard stopped them, say nothing
    of a version and are not counted.
    """

    def __init__(self, metrics: GatewayMetrics) -> None:
        self._metrics = metrics
        self._canaries: frozenset[str] = frozenset()
        self._counts: dict[Route, tuple[int, int]] = {}  # of the aliases in `_canaries`

    async def watched(self, batches: AsyncIterator[TokenBatch], route: Route) -> AsyncIterator[TokenBatch]:
        """`batches` as they come from the engine, and a count of how they end."""
        last: TokenBatch | None = None
        try:
            async for batch in batches:
                last = batch
                yield batch
        except (asyncio.CancelledError, GeneratorExit, Exception) as error:
            if last is not None and (last.finish is not None or last.version != route.version):
                self._record_end(route, last)  # nobody waits for what comes after the end
            elif isinstance(error, Exception):
                self.record(route, _code(error), is_failure=_is_failure(error))
            raise
        else:
            self._record_end(route, last)
        finally:
            close = getattr(batches, "aclose", None)
            if close is not None:
                await close()

    async def awaited(self, answer: Awaitable[T], route: Route) -> T:
        """`answer`, and a count of how it ended."""
        try:
            result = await answer
        except Exception as error:
            self.record(route, _code(error), is_failure=_is_failure(error))
            raise
        self.record(route, grpc.StatusCode.OK)
        return result

    def record(self, route: Route, code: grpc.StatusCode, *, is_failure: bool | None = None) -> None:
        """Count one request; `is_failure` overrides what its status says."""
        failed = code in _FAILURES if is_failure is None else is_failure
        labels = (route.alias, route.version, code.name)
        self._metrics.version_requests.labels(*labels).inc()
        if failed:
            self._metrics.version_failures.labels(*labels).inc()
        if route.alias in self._canaries:
            requests, failures = self._counts.get(route, (0, 0))
            self._counts[route] = (requests + 1, failures + failed)

    def _record_end(self, route: Route, last: TokenBatch | None) -> None:
        if last is not None and last.version != route.version:
            self.record(route, grpc.StatusCode.INTERNAL)
        elif last is None or last.finish is None:  # it broke off: no version that works answers so
            self.record(route, grpc.StatusCode.UNKNOWN)
        elif last.finish is not FinishReason.CANCELLED:
            self.record(route, grpc.StatusCode.OK)

    def follow(self, rollouts: Mapping[str, Rollout]) -> None:
        """Count for the aliases on which a canary runs, and forget the others."""
        self._canaries = frozenset(alias for alias, rollout in rollouts.items() if rollout.canary)
        self._counts = {
            route: counts for route, counts in self._counts.items() if route.alias in self._canaries
        }

    def report(self) -> tuple[Outcome, ...]:
        """Everything counted for the canaries that run."""
        return tuple(
            Outcome(route.alias, route.generation, route.version, *counts)
            for route, counts in self._counts.items()
        )


class CanaryGauges:
    """Shows what the rollouts say of canaries."""

    def __init__(self, metrics: GatewayMetrics) -> None:
        self._metrics = metrics
        self._before: Mapping[str, Rollout] = {}

    def show(self, rollouts: Mapping[str, Rollout]) -> None:
        """Show the weight of each canary that runs, and count those put back since the last call."""
        self._metrics.canary_weight.clear()
        for alias, rollout in rollouts.items():
            for target in rollout.targets:
                if target.version == rollout.canary:
                    self._metrics.canary_weight.labels(alias, target.version).set(target.weight)
            before = self._before.get(alias)
            if before is not None and before.canary and _was_put_back(before, rollout):
                self._metrics.automatic_rollbacks.labels(alias, before.canary).inc()
        self._before = dict(rollouts)


def _was_put_back(before: Rollout, rollout: Rollout) -> bool:
    is_left = all(target.version != before.canary for target in rollout.targets)
    return is_left and rollout.principal == CONDUCTOR and rollout.generation > before.generation


def _code(error: Exception) -> grpc.StatusCode:
    return code_of(error) if isinstance(error, ExpungeError) else grpc.StatusCode.INTERNAL


def _is_failure(error: Exception) -> bool:
    return isinstance(error, VersionNotStaged) or _code(error) in _FAILURES
