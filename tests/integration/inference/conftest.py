"""Settings of replicas on the tiny model."""

from __future__ import annotations

from pathlib import Path

import pytest

from expunge.config import Settings


@pytest.fixture(scope="module")
def settings(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("engines")
    return Settings(
        state_dir=folder / "state",
        cache_dir=folder / "cache",
        model=str(tiny_model_folder),
        dtype="float32",
        engine_replicas=2,
        engine_threads=1,
    )
