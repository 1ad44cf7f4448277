"""What a replica counts, and what a gateway's page shows of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from expunge.inference.stats import EngineStats
from expunge.observability.engine_metrics import ENGINE_METRICS, OF_STATS, EngineCollector, EngineMetrics

BUSY = EngineStats(
    running=3,
    waiting=2,
    prompt_tokens=70,
    cached_prompt_tokens=30,
    generated_tokens=12,
    preemptions=1,
    kv_used_bytes=4096,
    kv_kept_bytes=2048,
    kv_capacity_bytes=65536,
    staged=2,
)


def page(**replicas: EngineMetrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every value of a gateway's page, as a scraper reads it."""
    registry, collector = CollectorRegistry(), EngineCollector()
    registry.register(collector)
    collector.show({name: metrics.samples() for name, metrics in replicas.items()})
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(found: Mapping[tuple[str, frozenset[tuple[str, str]]], float], name: str, **labels: str) -> float:
    return found[f"expunge_engine_{name}", frozenset(labels.items())]


def test_each_field_of_the_stats_is_shown_and_no_other_is_asked_for() -> None:
    shown = {field for metric in OF_STATS for field in metric.of}
    assert shown == {field.name for field in fields(EngineStats)}


def test_each_metric_is_in_the_documentation() -> None:
    text = (Path(__file__).parents[3] / "docs" / "replicas.md").read_text()
    rows = {line.split("`")[1] for line in text.splitlines() if line.startswith("| `expunge_engine_")}
    assert rows == {metric.name for metric in ENGINE_METRICS}


def test_names_are_unique_and_begin_alike() -> None:
    names = [metric.name for metric in ENGINE_METRICS]
    assert len(set(names)) == len(names)
    assert all(name.startswith("expunge_engine_") for name in names)


def test_a_page_shows_the_stats_of_each_replica() -> None:
    busy, idle = EngineMetrics(with_ray=False), EngineMetrics(with_ray=False)
    busy.show(asdict(BUSY), ("v", "w"))
    found = page(busy=busy, idle=idle)
    assert value(found, "requests_running", replica="busy") == 3
    assert value(found, "requests_waiting", replica="busy") == 2
    assert value(found, "versions_staged", replica="busy") == 2
    assert value(found, "kv_used_bytes", replica="busy") == 4096
    assert value(found, "kv_kept_bytes", replica="busy") == 2048
    assert value(found, "kv_capacity_bytes", replica="busy") == 65536
    assert value(found, "preemptions_total", replica="busy") == 1
    assert value(found, "prefix_cache_queries_total", replica="busy") == 100
    assert value(found, "prefix_cache_hits_total", replica="busy") == 30
    assert value(found, "prompt_tokens_total", replica="busy") == 70
    assert value(found, "generation_tokens_total", replica="busy") == 12
    assert value(found, "requests_running", replica="idle") == 0


def test_counters_follow_the_stats_and_are_not_counted_twice() -> None:
    metrics = EngineMetrics(with_ray=False)
    for generated in (5, 5, 12):
        metrics.show({**asdict(BUSY), "generated_tokens": generated}, ())
    assert value(page(one=metrics), "generation_tokens_total", replica="one") == 12


def test_steps_phases_and_loads_are_counted_as_they_happen() -> None:
    metrics = EngineMetrics(with_ray=False)
    metrics.step_taken(0.02, 4)
    metrics.step_taken(0.3, 9)
    metrics.request_ended("v", 0.5, 0.25, 2.0)
    metrics.request_ended("v", 0.5, 0.25, None)
    metrics.request_ended("v", None, None, None)
    metrics.version_loaded(0.2)
    metrics.load_failed()
    found = page(one=metrics)
    assert value(found, "step_seconds_bucket", replica="one", le="0.02") == 1
    assert value(found, "step_seconds_count", replica="one") == 2
    assert value(found, "batch_rows_sum", replica="one") == 13
    assert value(found, "queue_seconds_sum", replica="one", version="v") == 1.0
    assert value(found, "prefill_seconds_count", replica="one", version="v") == 2
    assert value(found, "decode_seconds_count", replica="one", version="v") == 1
    assert value(found, "version_load_seconds_count", replica="one") == 1
    assert value(found, "version_load_failures_total", replica="one") == 1


def test_a_version_that_has_left_and_a_replica_that_is_gone_leave_the_page() -> None:
    metrics = EngineMetrics(with_ray=False)
    for version in ("old", "new"):
        metrics.request_ended(version, 0.1, 0.1, 0.1)
    metrics.show(asdict(BUSY), ("new",))
    versions = {dict(labels).get("version") for _, labels in page(one=metrics)}
    assert versions == {None, "new"}
    metrics.request_ended("old", 0.1, 0.1, 0.1)
    metrics.show(asdict(BUSY), ("new",))
    metrics.show(asdict(BUSY), ())
    assert {dict(labels).get("version") for _, labels in page(one=metrics)} == {None}
    assert page() == {}
