"""Every metric of an engine replica, declared once, and shown in two places.

A replica counts in an `EngineMetrics`: the one source of truth. Each value goes to Ray's metrics in the same
moment (names then begin with `ray_`), for clusters where Ray exports them. And the replica's reports to the
registry carry all values, which gateways show on their own /metrics page (`EngineCollector`), with the label
`replica`; there they are up to some ten seconds old.

Names begin with `expunge_engine_`; times are seconds.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import Metric

VERSION = "version"
REPLICA = "replica"

# name, labels, value; of a histogram as Prometheus has it, with buckets, sum and count
Sample = tuple[str, tuple[tuple[str, str], ...], float]


class Kind(StrEnum):
    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


@dataclass(frozen=True)
class EngineMetric:
    """One metric.

    Attributes:
        name: without Prometheus' `_total`.
        of: fields of the engine's stats of which it shows the sum; none: it is told of each occurrence.
        buckets: upper bounds, of a histogram.
    """

    name: str
    kind: Kind
    help: str
    of: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_STEP_BUCKETS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)
_ROW_BUCKETS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256)
_WAIT_BUCKETS = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LOAD_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

STEP_SECONDS = EngineMetric(
    "expunge_engine_step_seconds",
    Kind.HISTOGRAM,
    "One turn of the engine: prefill of some prompt tokens and a token for every running row.",
    buckets=_STEP_BUCKETS,
)
BATCH_ROWS = EngineMetric(
    "expunge_engine_batch_rows", Kind.HISTOGRAM, "Requests that a turn worked on.", buckets=_ROW_BUCKETS
)
QUEUE_SECONDS = EngineMetric(
    "expunge_engine_queue_seconds",
    Kind.HISTOGRAM,
    "From a request's arrival at the replica to the beginning of its prefill.",
    labels=(VERSION,),
    buckets=_WAIT_BUCKETS,
)
PREFILL_SECONDS = EngineMetric(
    "expunge_engine_prefill_seconds",
    Kind.HISTOGRAM,
    "From the beginning of a request's prefill to its first result.",
    labels=(VERSION,),
    buckets=_WAIT_BUCKETS,
)
DECODE_SECONDS = EngineMetric(
    "expunge_engine_decode_seconds",
    Kind.HISTOGRAM,
    "From a generation's first token to its end.",
    labels=(VERSION,),
    buckets=_WAIT_BUCKETS,
)
LOAD_SECONDS = EngineMetric(
    "expunge_engine_version_load_seconds",
    Kind.HISTOGRAM,
    "Staging a version: fetching, checking and making it resident.",
    buckets=_LOAD_BUCKETS,
)
LOAD_FAILURES = EngineMetric(
    "expunge_engine_version_load_failures", Kind.COUNTER, "Attempts to stage a version that failed."
)

# What the engine's stats tell: a field more there is a line more here.
OF_STATS = (
    EngineMetric(
        "expunge_engine_requests_running", Kind.GAUGE, "Requests being prefilled or decoded.", ("running",)
    ),
    EngineMetric(
        "expunge_engine_requests_waiting", Kind.GAUGE, "Requests that wait for their prefill.", ("waiting",)
    ),
    EngineMetric("expunge_engine_versions_staged", Kind.GAUGE, "Versions resident.", ("staged",)),
    EngineMetric(
        "expunge_engine_kv_used_bytes", Kind.GAUGE, "KV cache that running requests hold.", ("kv_used_bytes",)
    ),
    EngineMetric(
        "expunge_engine_kv_kept_bytes",
        Kind.GAUGE,
        "KV cache of prompts kept for later ones; free where it is needed.",
        ("kv_kept_bytes",),
    ),
    EngineMetric("expunge_engine_kv_capacity_bytes", Kind.GAUGE, "KV cache in all.", ("kv_capacity_bytes",)),
    EngineMetric(
        "expunge_engine_preemptions",
        Kind.COUNTER,
        "Requests that gave way to others, and went on later.",
        ("preemptions",),
    ),
    EngineMetric(
        "expunge_engine_prefix_cache_queries",
        Kind.COUNTER,
        "Prompt tokens looked up in the prefix cache.",
        ("prompt_tokens", "cached_prompt_tokens"),
    ),
    EngineMetric(
        "expunge_engine_prefix_cache_hits",
        Kind.COUNTER,
        "Prompt tokens that were not computed: kept from an earlier prompt.",
        ("cached_prompt_tokens",),
    ),
    EngineMetric("expunge_engine_prompt_tokens", Kind.COUNTER, "Prompt tokens computed.", ("prompt_tokens",)),
    EngineMetric(
        "expunge_engine_generation_tokens", Kind.COUNTER, "Tokens generated.", ("generated_tokens",)
    ),
)
ENGINE_METRICS = (
    *OF_STATS,
    *(STEP_SECONDS, BATCH_ROWS, QUEUE_SECONDS, PREFILL_SECONDS, DECODE_SECONDS, LOAD_SECONDS, LOAD_FAILURES),
)


class EngineMetrics:
    """What one replica counts. Any thread may tell it something.

    Args:
        with_ray: tell Ray's metrics, too; needs a process that is connected to Ray.
    """

    def __init__(self, *, with_ray: bool) -> None:
        self._registry = CollectorRegistry()
        self._own = {metric: _collector(metric, self._registry) for metric in ENGINE_METRICS}
        self._ray = {metric: _ray_metric(metric) for metric in ENGINE_METRICS} if with_ray else {}
        self._seen: dict[EngineMetric, float] = {}  # counters of the stats, as they were last shown
        self._versions: set[str] = set()  # that have values of their own
        self._lock = threading.Lock()

    def show(self, stats: Mapping[str, float], staged: Collection[str]) -> None:
        """Take over the engine's stats, field by field, and drop what is kept of versions not `staged`."""
        for metric in OF_STATS:
            value = float(sum(stats[field] for field in metric.of))
            if metric.kind is Kind.GAUGE:
                self._own[metric].set(value)
                if metric in self._ray:
                    self._ray[metric].set(value)
            else:
                self._add(metric, value - self._seen.get(metric, 0.0))
                self._seen[metric] = value
        with self._lock:
            for version in self._versions - set(staged):
                self._versions.discard(version)
                for metric in ENGINE_METRICS:
                    if VERSION in metric.labels:
                        self._own[metric].remove(version)

    def step_taken(self, seconds: float, rows: int) -> None:
        """The engine has made a turn, with `rows` requests running at its beginning."""
        self._observe(STEP_SECONDS, seconds)
        self._observe(BATCH_ROWS, rows)

    def request_ended(
        self, version: str, queue_s: float | None, prefill_s: float | None, decode_s: float | None
    ) -> None:
        """A request is over; None for what it did not come to the end of, or does not have."""
        phases = ((QUEUE_SECONDS, queue_s), (PREFILL_SECONDS, prefill_s), (DECODE_SECONDS, decode_s))
        with self._lock:
            self._versions.add(version)
            for metric, seconds in phases:
                child = self._own[metric].labels(version)
                if seconds is not None:
                    child.observe(seconds)
        for metric, seconds in phases:
            if seconds is not None and metric in self._ray:
                self._ray[metric].observe(seconds, tags={VERSION: version})

    def version_loaded(self, seconds: float) -> None:
        """A version was staged."""
        self._observe(LOAD_SECONDS, seconds)

    def load_failed(self) -> None:
        """An attempt to stage a version failed."""
        self._add(LOAD_FAILURES, 1.0)

    def samples(self) -> tuple[Sample, ...]:
        """All values as of now, to be sent."""
        return tuple(
            (sample.name, tuple(sample.labels.items()), sample.value)
            for family in self._registry.collect()
            for sample in family.samples
            if not sample.name.endswith("_created")
        )

    def _add(self, metric: EngineMetric, amount: float) -> None:
        if amount > 0:
            self._own[metric].inc(amount)
            if metric in self._ray:
                self._ray[metric].inc(amount)

    def _observe(self, metric: EngineMetric, value: float) -> None:
        self._own[metric].observe(value)
        if metric in self._ray:
            self._ray[metric].observe(value)


class EngineCollector:
    """The replicas' values on a gateway's /metrics page, each with the label `replica`."""

    def __init__(self) -> None:
        self._replicas: Mapping[str, Collection[Sample]] = {}

    def show(self, replicas: Mapping[str, Collection[Sample]]) -> None:
        """Replace all that is shown, by replica."""
        self._replicas = dict(replicas)

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus-client for every page."""
        replicas = self._replicas
        for metric in ENGINE_METRICS:
            family = Metric(metric.name, metric.help, metric.kind.value)
            names = _sample_names(metric)
            for replica, samples in replicas.items():
                for name, labels, value in samples:
                    if name in names:
                        family.add_sample(name, {REPLICA: replica, **dict(labels)}, value)
            yield family


def _sample_names(metric: EngineMetric) -> frozenset[str]:
    endings = {
        Kind.GAUGE: ("",),
        Kind.COUNTER: ("_total",),
        Kind.HISTOGRAM: ("_bucket", "_sum", "_count"),
    }[metric.kind]
    return frozenset(f"{metric.name}{ending}" for ending in endings)


def _collector(metric: EngineMetric, registry: CollectorRegistry) -> Any:
    if metric.kind is Kind.HISTOGRAM:
        return Histogram(metric.name, metric.help, metric.labels, buckets=metric.buckets, registry=registry)
    kind = Gauge if metric.kind is Kind.GAUGE else Counter
    return kind(metric.name, metric.help, metric.labels, registry=registry)


def _ray_metric(metric: EngineMetric) -> Any:
    """Ray adds the replica, its deployment and its node as tags."""
    from ray.serve import metrics  # gateways read this file, too, and need nothing of it

    if metric.kind is Kind.HISTOGRAM:
        boundaries = [bound for bound in metric.buckets if bound > 0]
        return metrics.Histogram(metric.name, metric.help, boundaries=boundaries, tag_keys=metric.labels)
    kind = metrics.Gauge if metric.kind is Kind.GAUGE else metrics.Counter
    return kind(metric.name, metric.help, tag_keys=metric.labels)
