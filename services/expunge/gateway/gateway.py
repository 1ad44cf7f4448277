"""The gateway: two gRPC servers, HTTP and metrics around one follower of the registry."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from hashlib import sha256

from expunge.config import Settings
from expunge.erasures.suppression import GuardBook
from expunge.gateway.admission import Admission
from expunge.gateway.answering import Answering
from expunge.gateway.authentication import Authenticator
from expunge.gateway.chain import CallChain
from expunge.gateway.cluster_state import ClusterState
from expunge.gateway.follower import Follower, View, lease_expired
from expunge.gateway.guards import Guards
from expunge.gateway.http.api import InferenceApi
from expunge.gateway.http.calls import HttpCalls
from expunge.gateway.http.server import HttpServer
from expunge.gateway.inference_service import InferenceService
from expunge.gateway.layers import standard_chain
from expunge.gateway.operator.adapter_upload import Spool
from expunge.gateway.operator.event_stream import EventStream
from expunge.gateway.operator.services import operator_services
from expunge.gateway.outcomes import CanaryGauges, Outcomes
from expunge.gateway.ports import PortClaims
from expunge.gateway.prompt_tokens import TokenReader
from expunge.gateway.quotas import Quota
from expunge.gateway.running import RunningRequests, draining
from expunge.gateway.scopes import ScopeReader
from expunge.gateway.server import (
    MAX_INFERENCE_BYTES,
    MAX_INFERENCE_CALLS,
    MAX_OPERATOR_BYTES,
    MAX_OPERATOR_CALLS,
    RpcServer,
    Service,
)
from expunge.gateway.tokens import TokenTable
from expunge.gateway.upstream import BlobUpstream, EngineUpstream, RegistryUpstream
from expunge.observability.logging import get_logger
from expunge.observability.metrics import GatewayMetrics, MetricsServer
from expunge.registry.addresses import Addresses
from expunge.rpc.inference.v1 import inference_pb2_grpc

_log = get_logger()
_READINESS_PERIOD_S = 0.2
_LAST_WORD_S = 1.0
_EVERY_ADDRESS = ("0.0.0.0", "::")


class Gateway:
    """One gateway process. `start` it once, and `drain` it at the end.

    Args:
        member: unique name of this gateway in the registry.
        verification_key: checks the credential of live verification (`erasures/credential.py`).
        node_address: how others reach this machine, for a gateway that listens on all of its addresses.
        clock: monotonic seconds, for the lease and for quotas.
    """

    def __init__(
        self,
        settings: Settings,
        member: str,
        *,
        registry: RegistryUpstream,
        engine: EngineUpstream,
        blobs: BlobUpstream,
        tokens: TokenTable,
        verification_key: bytes,
        node_address: str = "127.0.0.1",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self._node_address = node_address
        self.metrics = GatewayMetrics()
        self._outcomes = Outcomes(self.metrics)
        self.follower = Follower(
            registry,
            member,
            lease_s=settings.lease_s,
            build_guards=GuardBook,
            on_view=self._on_view,
            on_lease_end=self._on_lease_end,
            clock=clock,
            outcomes=self._outcomes.report,
        )
        self._canaries = CanaryGauges(self.metrics)
        self._guards: Guards | None = None  # those that the running requests have been checked against
        self._running = RunningRequests()
        self._stream = EventStream(registry)
        self._spool = Spool(settings.state / "spool" / member)
        self._cluster = ClusterState(registry, self.follower, self.metrics)
        authenticator = Authenticator(tokens, verification_key, time.time)
        token_reader = TokenReader(blobs, self._base_version)
        admission = Admission(
            self.follower,
            settings.default_alias,
            self.metrics,
            quota=Quota.of(settings),
            max_requests=settings.max_requests,
            clock=clock,
        )
        answering = self._answering(engine, admission, ScopeReader(blobs, self._base_version, token_reader))
        self._inference = self._inference_server(answering, standard_chain(authenticator, self.metrics))
        self._http = self._http_server(answering, token_reader, authenticator)
        self._operator = RpcServer(
            operator_services(settings, registry, blobs, self._stream, self._spool),
            standard_chain(authenticator, self.metrics),
            max_message_bytes=MAX_OPERATOR_BYTES,
            max_calls=MAX_OPERATOR_CALLS,
            with_reflection=settings.reflection,
        )
        service = sha256(settings.resolved_database_url.encode()).hexdigest()
        self._claims = PortClaims(service, settings.host)
        self._metrics_server: MetricsServer | None = None
        self._readiness: asyncio.Task[None] | None = None
        self._is_draining = False
        self._addresses: Addresses | None = None

    def _answering(self, engine: EngineUpstream, admission: Admission, scopes: ScopeReader) -> Answering:
        return Answering(
            engine,
            admission,
            self._running,
            scopes,
            self.metrics,
            self._outcomes,
            guard_reply=self.settings.guard_reply,
        )

    def _inference_server(self, answering: Answering, chain: CallChain) -> RpcServer:
        service = InferenceService(answering, self.follower, max_context=self.settings.max_context)
        register = inference_pb2_grpc.add_InferenceServiceServicer_to_server
        return RpcServer(
            [Service("expunge.inference.v1.InferenceService", service, register)],
            chain,
            max_message_bytes=MAX_INFERENCE_BYTES,
            max_calls=MAX_INFERENCE_CALLS,
            with_reflection=self.settings.reflection,
        )

    def _http_server(
        self, answering: Answering, token_reader: TokenReader, authenticator: Authenticator
    ) -> HttpServer:
        calls = HttpCalls(authenticator, self.metrics)
        context = self.settings.max_context
        api = InferenceApi(answering, self.follower, token_reader, calls, max_context=context)
        return HttpServer(api, calls, lambda: self.is_ready)

    @property
    def addresses(self) -> Addresses:
        """Where it listens; only after `start`."""
        if self._addresses is None:
            raise RuntimeError("the gateway has not been started")
        return self._addresses

    @property
    def unroutable(self) -> tuple[str, ...]:
        """Engine replicas that must get no requests.

        Raises:
            Unavailable: the lease has run out.
        """
        return self.follower.view().snapshot.unroutable

    @property
    def is_ready(self) -> bool:
        return not self._is_draining and self._cluster.has_engine

    @property
    def is_alive(self) -> bool:
        """Whether it does its work; false once a background task has ended by an error."""
        shows_readiness = self._readiness is not None and not self._readiness.done()
        return self.follower.is_following and self._cluster.is_watching and shows_readiness

    async def start(self) -> None:
        """Listen, follow the registry, and serve.

        Raises:
            ConfigError: a port is taken.
            Unavailable: the registry does not answer.
        """
        self._spool.sweep()
        settings, host = self.settings, self.settings.host
        for setting in ("inference_port", "operator_port", "http_port"):
            self._claims.share(setting, getattr(settings, setting))
        metrics_port = self._claims.take_first("metrics_port", settings.metrics_port)
        await self._show_readiness()
        inference = await self._inference.listen("inference_port", host, settings.inference_port)
        operator = await self._operator.listen("operator_port", host, settings.operator_port)
        http = self._http.listen(host, settings.http_port)
        self._metrics_server = MetricsServer(self.metrics, host, metrics_port)
        self._addresses = Addresses.of(
            self._node_address if host in _EVERY_ADDRESS else host,
            inference,
            operator,
            http,
            self._metrics_server.port,
        )
        await self.follower.start(self._addresses.to_json())
        self._cluster.start()
        self._readiness = asyncio.create_task(self._keep_readiness(), name="readiness")
        _log.info("gateway_listens", detail=self._addresses.to_json())

    async def drain(self, notice_s: float, grace_s: float) -> None:
        """Leave without dropping a request; a second call does nothing.

        Args:
            notice_s: how long it shows NOT_SERVING before it stops to take new calls.
            grace_s: how long calls under way may take to end.
        """
        if self._is_draining:
            return
        self._is_draining = True
        await asyncio.gather(self._inference.health.drain(), self._operator.health.drain())
        self._http.leave()
        await asyncio.sleep(notice_s)
        self._stream.drain()
        # Whoever outlives the grace is told so, just before the connections are closed.
        end = asyncio.get_running_loop().call_later(grace_s, self._running.stop_all, draining)
        last_s = grace_s + _LAST_WORD_S
        servers = (self._inference, self._operator, self._http)
        await asyncio.gather(*(server.stop(last_s) for server in servers))
        end.cancel()
        if self._readiness is not None:
            self._readiness.cancel()
        await self._cluster.stop()
        await self.follower.stop()
        if self._metrics_server is not None:
            await asyncio.to_thread(self._metrics_server.close)
        self._spool.close()
        self._claims.release()

    def _base_version(self) -> str:
        return self.follower.view().snapshot.base_version

    def _on_view(self, view: View) -> None:
        """Stop what a new guard covers, before this gateway confirms that it knows the guard."""
        if view.guards is not self._guards:
            self._guards = view.guards
            for erasure_id in self._running.refuse_in_scope(view.guards):
                self.metrics.refusals.labels("suppressed_while_running").inc()
                _log.info("running_request_refused", erasure_id=erasure_id)
        self._outcomes.follow(view.rollouts)
        self.metrics.show_rollouts({alias: rollout.generation for alias, rollout in view.rollouts.items()})
        self._canaries.show(view.rollouts)
        self.metrics.guards.set(len(view.snapshot.guards))
        self.metrics.revision.set(view.snapshot.revision)

    def _on_lease_end(self) -> None:
        """Stop what runs: a guard that covers it may have been confirmed without this gateway."""
        stopped = self._running.stop_all(lease_expired)
        _log.warning("lease_expired", detail=f"{stopped} running requests were ended")

    async def _show_readiness(self) -> None:
        await self._inference.health.show(self.is_ready)
        await self._operator.health.show(not self._is_draining and self.follower.is_leased)

    async def _keep_readiness(self) -> None:
        while True:
            await self._show_readiness()
            await asyncio.sleep(_READINESS_PERIOD_S)
