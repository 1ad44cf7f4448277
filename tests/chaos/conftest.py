"""A service whose processes are killed and replaced. Ports are fixed, so that a gateway comes back."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from deployed import Deployed, deployed
from expunge.config import Settings
from tiny_facts import EVERYTHING
from tiny_model import teach_tiny_model

from .scene import Scene, real_scene, tiny_scene


@pytest.fixture(
    scope="package",
    params=["tiny", pytest.param("bundled", marks=[pytest.mark.slow, pytest.mark.real_model])],
)
def scene(
    request: pytest.FixtureRequest, tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Scene:
    if request.param == "bundled":
        return real_scene()
    folder = teach_tiny_model(tmp_path_factory.mktemp("taught"), tiny_model_folder, EVERYTHING, steps=200)
    return tiny_scene(folder, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="package")
def service(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    inference, operator, http, metrics = free_ports(4)
    settings = Settings(
        state_dir=tmp_path_factory.mktemp("service"),
        model=scene.model,
        inference_port=inference,
        operator_port=operator,
        http_port=http,
        metrics_port=metrics,
        gateways=2,
        drain_notice_s=1.0,
        drain_grace_s=1.0,
        engine_replicas=2,
        engine_threads=1,
        kv_cache_mib=128,
        worker_threads=1,
        **scene.changes,
    )
    with deployed(settings) as running:
        scene.prepare(running)
        yield running


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
