"""Every metric of a gateway, declared once. Names begin with `expunge_`; times are seconds."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterable, Mapping
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from expunge.errors import ConfigError
from expunge.observability.engine_metrics import EngineCollector

_FIRST_TOKEN_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80)
_INTER_TOKEN_BUCKETS = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75),
    *(1, 2.5, 5, 7.5, 10, 20, 40, 80),
)
_SERVED = ("alias", "version")


class _CallMetrics:
    """Calls and the tokens they take."""

    def __init__(self, own: CollectorRegistry) -> None:
        self.requests = Counter(
            "expunge_requests", "Calls answered, by status.", ("method", "code"), registry=own
        )
        self.failures = Counter(
            "expunge_request_failures", "Calls that ended in an error.", ("method", "code"), registry=own
        )
        self.request_seconds = Histogram(
            "expunge_request_seconds", "From arrival to the last byte.", ("method",), registry=own
        )
        self.running = Gauge("expunge_requests_running", "Requests in progress.", _SERVED, registry=own)
        self.prompt_tokens = Counter("expunge_prompt_tokens", "Prompt tokens read.", _SERVED, registry=own)
        self.generation_tokens = Counter(
            "expunge_generation_tokens", "Tokens generated.", _SERVED, registry=own
        )
        self.first_token_seconds = Histogram(
            "expunge_time_to_first_token_seconds",
            "From admission to the first token.",
            _SERVED,
            buckets=_FIRST_TOKEN_BUCKETS,
            registry=own,
        )
        self.inter_token_seconds = Histogram(
            "expunge_inter_token_seconds",
            "Between tokens after the first; tokens that arrive together share their time evenly.",
            _SERVED,
            buckets=_INTER_TOKEN_BUCKETS,
            registry=own,
        )
        self.refusals = Counter("expunge_refusals", "Requests refused, by reason.", ("reason",), registry=own)


class _CanaryMetrics:
    """How the answers of each version end, and what follows for canaries."""

    def __init__(self, own: CollectorRegistry) -> None:
        self.version_requests = Counter(
            "expunge_version_requests",
            "Answers of engines, by how they ended.",
            (*_SERVED, "code"),
            registry=own,
        )
        self.version_failures = Counter(
            "expunge_version_request_failures",
            "Answers of engines that failed through no fault of the caller; canaries are judged by them.",
            (*_SERVED, "code"),
            registry=own,
        )
        self.canary_weight = Gauge(
            "expunge_canary_weight", "Percent of callers on a canary that runs.", _SERVED, registry=own
        )
        self.automatic_rollbacks = Counter(
            "expunge_automatic_rollbacks",
            "Canaries that were put back by themselves; every gateway counts each.",
            _SERVED,
            registry=own,
        )


class _AdmissionMetrics:
    """Who holds how much of the gateway, and who was refused."""

    def __init__(self, own: CollectorRegistry) -> None:
        self.admission_rejections = Counter(
            "expunge_admission_rejections",
            "Requests refused for a quota, the gateway's bound or their deadline, by reason.",
            ("reason",),
            registry=own,
        )
        self.admitted = Gauge(
            "expunge_admitted_answers", "Answers under way, of the gateway's max_requests.", registry=own
        )
        self.client_requests = Gauge(
            "expunge_client_answers",
            "Answers under way, of the client's quota max_concurrent.",
            ("client",),
            registry=own,
        )
        self.client_tokens = Counter(
            "expunge_client_tokens",
            "Prompt and generated tokens charged to the client's quota tokens_per_minute.",
            ("client",),
            registry=own,
        )


class _ClusterMetrics:
    """What the gateway knows of registry and engines."""

    def __init__(self, own: CollectorRegistry) -> None:
        self.staged_replicas = Gauge(
            "expunge_version_staged_replicas",
            "Engine replicas that hold the version.",
            ("version",),
            registry=own,
        )
        self.versions_staged = Gauge(
            "expunge_versions_staged", "Versions resident on every live engine replica.", registry=own
        )
        self.engines = Gauge("expunge_engine_replicas", "Live engine replicas.", registry=own)
        self.rollout_generation = Gauge(
            "expunge_rollout_generation", "Generation this gateway routes by.", ("alias",), registry=own
        )
        self.erasures = Gauge("expunge_erasures", "Erasures, by state.", ("state",), registry=own)
        self.guards = Gauge("expunge_guards", "Erasures this gateway suppresses.", registry=own)
        self.revision = Gauge("expunge_registry_revision", "Registry revision applied here.", registry=own)
        self.lease_seconds = Gauge(
            "expunge_registry_lease_seconds", "Seconds left of the lease.", registry=own
        )


class GatewayMetrics(_CallMetrics, _CanaryMetrics, _AdmissionMetrics, _ClusterMetrics):
    """The collectors of one gateway process, in a registry of their own."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry()
        _CallMetrics.__init__(self, self.registry)
        _CanaryMetrics.__init__(self, self.registry)
        _AdmissionMetrics.__init__(self, self.registry)
        _ClusterMetrics.__init__(self, self.registry)
        self.engine_metrics = EngineCollector()
        self.registry.register(self.engine_metrics)

    def show_rollouts(self, generations: Mapping[str, int]) -> None:
        """Generation by alias; aliases that are gone disappear."""
        self.rollout_generation.clear()
        for alias, generation in generations.items():
            self.rollout_generation.labels(alias).set(generation)

    def show_erasures(self, counts: Mapping[str, int]) -> None:
        """Number of erasures by state; states with none show 0."""
        for state, count in counts.items():
            self.erasures.labels(state).set(count)

    def show_engines(self, staged: Iterable[Iterable[str]]) -> None:
        """The version ids each live engine replica holds."""
        replicas = [set(versions) for versions in staged]
        self.staged_replicas.clear()
        for version in set().union(*replicas):
            self.staged_replicas.labels(version).set(sum(version in held for held in replicas))
        self.versions_staged.set(len(set.intersection(*replicas)) if replicas else 0)
        self.engines.set(len(replicas))


class MetricsServer:
    """The /metrics page of one gateway, on a port of its own."""

    def __init__(self, metrics: GatewayMetrics, host: str, port: int) -> None:
        """Listen at once.

        Args:
            port: 0 takes any free port; `self.port` tells which.

        Raises:
            ConfigError: the port is taken.
        """
        self._server: WSGIServer
        self._thread: threading.Thread
        try:
            self._server, self._thread = start_http_server(port, addr=host, registry=metrics.registry)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise ConfigError(
                f"metrics_port {port} on {host} is taken; stop the process that holds it or set "
                "EXPUNGE_METRICS_PORT to another port (0: any free one)",
                reason="PORT_TAKEN",
            ) from error

    @property
    def port(self) -> int:
        return int(self._server.server_port)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
