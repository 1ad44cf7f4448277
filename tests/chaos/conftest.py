"""A service on a tiny model whose processes are killed. Ports are fixed, so that a gateway comes back."""

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


@pytest.fixture(scope="package")
def taught_model_folder(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return teach_tiny_model(tmp_path_factory.mktemp("taught"), tiny_model_folder, EVERYTHING, steps=200)


@pytest.fixture(scope="package")
def service(taught_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    folder = tmp_path_factory.mktemp("service")
    inference, operator, http, metrics = free_ports(4)
    settings = Settings(
        state_dir=folder / "state",
        cache_dir=folder / "cache",
        model=str(taught_model_folder),
        dtype="float32",
        inference_port=inference,
        operator_port=operator,
        http_port=http,
        metrics_port=metrics,
        engine_replicas=2,
        engine_threads=1,
        worker_threads=1,
        unlearning_steps=90,  # the recipe is made for real models; a tiny one needs more, cheap here
    )
    with deployed(settings) as running:
        yield running


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
