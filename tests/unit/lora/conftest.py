"""Fixtures of the lora tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from expunge.lora.shape import ModelShape
from expunge.models.manifest import manifest_digest
from expunge.models.skeleton import empty_model


@pytest.fixture(scope="session")
def tiny_shape(tiny_model_folder: Path) -> ModelShape:
    """Shape of the tiny model."""
    return ModelShape.of(empty_model(tiny_model_folder), manifest_digest(tiny_model_folder))
