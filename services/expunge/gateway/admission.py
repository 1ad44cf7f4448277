"""Admission: may this be answered, and by which version."""

from __future__ import annotations

from expunge.gateway.call import Call, current_caller
from expunge.gateway.follower import Follower
from expunge.gateway.guards import Scope
from expunge.gateway.routing import Route, resolve
from expunge.gateway.running import refusal
from expunge.observability.logging import get_logger
from expunge.observability.metrics import GatewayMetrics

_log = get_logger()


class Admission:
    """Decides by one view of the registry: what is routed and what is guarded belong to the same revision."""

    def __init__(self, follower: Follower, default_alias: str, metrics: GatewayMetrics) -> None:
        self._follower = follower
        self._default_alias = default_alias
        self._metrics = metrics

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
