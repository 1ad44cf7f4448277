"""One service on a tiny model that knows some facts by heart, for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
import yaml

from deployed import Deployed, deployed
from expunge.config import Settings
from expunge.gateway.service_file import create_tokens
from tiny_facts import EVERYTHING, POLICY
from tiny_model import build_tiny_adapter, teach_tiny_model


@pytest.fixture(scope="package")
def taught_model_folder(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("taught")
    return teach_tiny_model(folder, tiny_model_folder, EVERYTHING, steps=200)


FLOOD = 80  # streams: more than the engines have rows
CLIENTS = {"flood": {"max_concurrent": FLOOD}, "other": {}}  # besides those that the service makes for itself


def add_clients(state: Path) -> None:
    """Tokens of the service's own, as it makes them, and those of `CLIENTS`: `token-of-` and the name."""
    create_tokens(state / "tokens.yaml", state)
    tokens = yaml.safe_load((state / "tokens.yaml").read_text())["tokens"]
    for name, quota in CLIENTS.items():
        digest = sha256(f"token-of-{name}".encode()).hexdigest()
        tokens.append({"token_sha256": digest, "principal": name, "role": "client", **quota})
    (state / "tokens.yaml").write_text(yaml.safe_dump({"tokens": tokens}))


@pytest.fixture(scope="package")
def service(taught_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    folder = tmp_path_factory.mktemp("service")
    add_clients(folder / "state")
    settings = Settings(
        state_dir=folder / "state",
        cache_dir=folder / "cache",
        model=str(taught_model_folder),
        dtype="float32",
        inference_port=0,
        operator_port=0,
        http_port=0,
        metrics_port=0,
        engine_replicas=2,
        engine_threads=1,
        kv_cache_mib=128,
        worker_threads=1,
        audit_policy=str(POLICY),
        unlearning_steps=90,  # the recipe is made for real models; a tiny one needs more, cheap here
    )
    with deployed(settings) as running:
        yield running


@pytest.fixture(scope="package")
def adapter_folders(taught_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two adapters that answer differently from each other and from the base."""
    folder = tmp_path_factory.mktemp("adapters")
    first, second = (
        build_tiny_adapter(folder / name, taught_model_folder, seed=seed)
        for name, seed in (("one", 1), ("two", 2))
    )
    return first, second


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Erasures come last: from then on only versions that meet the erasure floor may be served."""
    items.sort(key=lambda item: "test_erasure_lifecycle" in item.nodeid and "/e2e/" in str(item.path))
