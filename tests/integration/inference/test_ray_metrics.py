"""Where Ray's agent runs, it shows what the engine replicas count."""

from __future__ import annotations

import asyncio
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
import ray
from prometheus_client.parser import text_string_to_metric_families

from expunge.config import Settings
from expunge.inference.client import EngineClient
from expunge.observability.engine_metrics import ENGINE_METRICS

from .engines import Engines, engines, eventually

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def service(settings: Settings, port: int) -> Iterator[Engines]:
    with engines(settings, port) as running:
        yield running


def scrape(port: int) -> dict[str, float]:
    """Sample name → sum over all labels; nothing while the agent starts."""
    try:
        with urllib.request.urlopen(f"http://{ray.util.get_node_ip_address()}:{port}/metrics") as page:
            text = page.read().decode()
    except urllib.error.URLError:
        return {}
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found


async def test_rays_page_has_every_metric_that_has_a_value(service: Engines, port: int) -> None:
    client, tokens = EngineClient(service.handle), 0
    for _ in range(6):  # whichever of two replicas answers, one meets a prompt that it has kept
        batches = [batch async for batch in client.generate(service.ask("The keeper of the light " * 20))]
        tokens += batches[-1].completion_tokens

    async def is_shown() -> bool:
        found = await asyncio.to_thread(scrape, port)
        return found.get("ray_expunge_engine_generation_tokens_total", 0.0) == tokens

    await eventually(is_shown)
    found = scrape(port)
    never = {"expunge_engine_version_load_failures", "expunge_engine_preemptions"}  # there was none
    for metric in ENGINE_METRICS:
        shown = [name for name in found if name.startswith(f"ray_{metric.name}")]
        assert shown or metric.name in never, metric.name
