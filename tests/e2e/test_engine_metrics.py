"""A gateway's /metrics page tells what the engine replicas do, without an agent of Ray's."""

from __future__ import annotations

import time
import urllib.request
from collections import defaultdict

from prometheus_client.parser import text_string_to_metric_families

from deployed import Deployed
from tiny_facts import OTHERS

PATIENCE_S = 30.0  # replicas report every 5 s, and gateways ask as often


def scrape(service: Deployed) -> dict[str, dict[str, float]]:
    """Sample name → replica → sum over other labels, of the engine's metrics."""
    with urllib.request.urlopen(f"http://{service.service.addresses.metrics}/metrics") as page:
        text = page.read().decode()
    found: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if "replica" in sample.labels:
                found[sample.name][sample.labels["replica"]] += sample.value
    return found


def generated(service: Deployed) -> float:
    return sum(scrape(service)["expunge_engine_generation_tokens_total"].values())


def test_the_page_counts_what_was_generated_on_every_replica(service: Deployed) -> None:
    before = generated(service)
    tokens = sum(service.ask(question).usage.completion_tokens for question, _ in OTHERS)
    give_up_at = time.monotonic() + PATIENCE_S
    while generated(service) < before + tokens and time.monotonic() < give_up_at:
        time.sleep(0.5)
    found = scrape(service)
    assert sum(found["expunge_engine_generation_tokens_total"].values()) >= before + tokens > 0
    assert len(found["expunge_engine_requests_running"]) == 2
    assert all(count >= 1 for count in found["expunge_engine_versions_staged"].values())
    for name in ("step_seconds", "batch_rows", "queue_seconds", "prefill_seconds", "version_load_seconds"):
        assert sum(found[f"expunge_engine_{name}_count"].values()) > 0
    hits, queries = (
        sum(found[f"expunge_engine_prefix_cache_{name}_total"].values()) for name in ("hits", "queries")
    )
    assert 0 <= hits < queries
