"""Admission: may this be answered, by which version, and is there room for it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from expunge.errors import ExpungeError, Overloaded
from expunge.gateway.call import Call, current_caller
from expunge.gateway.clients import Clients
from expunge.gateway.demand import Demand
from expunge.gateway.follower import Follower
from expunge.gateway.guards import Scope
from expunge.gateway.pace import Kind, Pace, Stopwatch
from expunge.gateway.quotas import Quota
from expunge.gateway.routing import Route, resolve
from expunge.gateway.running import refusal
from expunge.gateway.tokens import Caller
from expunge.inference.request import Priority, TokenBatch
from expunge.observability.logging import get_logger
from expunge.observability.metrics import GatewayMetrics

_log = get_logger()
_SHORTEST_RETRY_S = 0.1


class Admission:
    """Decides by one view of the registry: what is routed and what is guarded belong to the same revision.

    Args:
        quota: of clients that the tokens file says nothing about.
        max_requests: answers under way at once, of all clients.
        clock: monotonic seconds.
        now: seconds since the epoch, which deadlines are given in.
    """

    def __init__(
        self,
        follower: Follower,
        default_alias: str,
        metrics: GatewayMetrics,
        *,
        quota: Quota,
        max_requests: int,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._follower = follower
        self._default_alias = default_alias
        self._metrics = metrics
        self._quota = quota
        self._clients = Clients(max_requests, clock)
        self._pace = Pace(clock)
        self._now = now

    def route(self, alias: str) -> Route:
        """The version for a request of the current caller; fixed from here to its last token.

        Raises:
            Unavailable: the lease has run out.
            NotFound: no such alias.
        """
        view = self._follower.view()
        return resolve(view.rollouts, alias or self._default_alias, current_caller().principal)

    def check_guards(self, scope: Scope, call: Call) -> None:
        """Refuse what is in scope of a suppressed erasure.

        Raises:
            RefusedByPolicy: neutral; the cause goes to the log only.
            Unavailable: the lease has run out.
        """
        erasure_id = scope.matched_by(self._follower.view().guards)
        if erasure_id is not None:
            self._metrics.refusals.labels("suppressed").inc()
            _log.info(
                "request_refused", request_id=call.request_id, method=call.method, erasure_id=erasure_id
            )
            raise refusal()

    def priority(self, caller: Caller, asked: Priority) -> Priority:
        """What `caller` gets when it asks for `asked`."""
        return self._quota_of(caller).granted(asked)

    @asynccontextmanager
    async def admitted(self, caller: Caller, route: Route, demand: Demand) -> AsyncIterator[Admitted]:
        """Hold places and tokens for one request while it runs. Nobody waits here; what waits does so in
        the engines' own bounded queues, fairly.

        Raises:
            Overloaded: a quota or the gateway's bound is reached, or the deadline can't be met.
        """
        kind = Kind.of(route.alias, route.version, demand.prompt_tokens)
        name = caller.principal
        try:
            self._require_time(kind, demand)
            self._clients.take(name, self._quota_of(caller), demand)
        except Overloaded as error:
            self._metrics.admission_rejections.labels(error.reason).inc()
            raise
        self._show(name)
        admitted = Admitted(demand, self._pace.begin(kind))
        try:
            yield admitted
        except ExpungeError:
            admitted.fail()
            raise
        finally:
            used = admitted.close()
            self._clients.release(name, demand, used)
            self._metrics.client_tokens.labels(name).inc(used)
            self._show(name)

    def _quota_of(self, caller: Caller) -> Quota:
        return caller.quota or self._quota

    def _require_time(self, kind: Kind, demand: Demand) -> None:
        """Refuse what can't have its first token before its deadline.

        Raises:
            Overloaded: with what is expected and what the deadline leaves.
        """
        if demand.deadline is None:
            return
        left_s = demand.deadline - self._now()
        first_s = self._pace.first_token_s(kind)
        if left_s > (first_s or 0.0):
            return
        expected = f"the first token is expected in {first_s or 0.0:.3f} s"
        whole_s = self._pace.answer_s(kind, demand.max_tokens)
        if whole_s is not None:
            expected += f", an answer of {demand.max_tokens} tokens in {whole_s:.3f} s"
        raise Overloaded(
            f"the deadline can't be met: it leaves {left_s:.3f} s, {expected}; allow more time or try later",
            reason="DEADLINE_UNREACHABLE",
            metadata={
                "subject": f"alias:{kind.alias}",
                "estimate_s": f"{first_s or 0.0:.3f}",
                "deadline_s": f"{left_s:.3f}",
            },
            retry_after_s=max(_SHORTEST_RETRY_S, (first_s or 0.0) - left_s),
        )

    def _show(self, name: str) -> None:
        held = self._clients.held_by(name)
        self._metrics.admitted.set(self._clients.held)
        if held:
            self._metrics.client_requests.labels(name).set(held)
        else:
            self._metrics.client_requests.remove(name)


class Admitted:
    """One request that runs: what it has used so far."""

    def __init__(self, demand: Demand, stopwatch: Stopwatch) -> None:
        self._demand = demand
        self._stopwatch = stopwatch
        self._produced = 0  # tokens of answers under way and ended
        self._completed = 0  # tokens of ended ones
        self._settled = 0  # what ended ones used, prompts included
        self._ended = 0
        self._has_failed = False

    def produced(self, batch: TokenBatch) -> None:
        """Some tokens of an answer came; its last batch settles it."""
        self._produced += len(batch.token_ids)
        self._stopwatch.tokens(len(batch.token_ids))
        if batch.finish is not None:
            self.settle(batch.prompt_tokens, batch.completion_tokens)

    def settle(self, prompt_tokens: int, completion_tokens: int) -> None:
        """One answer ended, and used so many tokens."""
        self._completed += completion_tokens
        self._settled += prompt_tokens + completion_tokens
        self._ended += 1

    def fail(self) -> None:
        """The service could not answer: a prompt of which no token came is not charged."""
        self._has_failed = True

    def close(self) -> int:
        """Stop; returns the tokens that are to be charged.

        Answers that did not end are charged their prompt, as estimated, and what came of them.
        """
        self._stopwatch.stop()
        unended = self._demand.answers - self._ended
        if unended <= 0:
            return self._settled
        rest = max(0, self._produced - self._completed)
        if self._has_failed and not rest:
            return self._settled
        return self._settled + rest + unended * self._demand.prompt_tokens
