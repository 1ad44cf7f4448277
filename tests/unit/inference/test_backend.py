"""Engines are opened by name."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from expunge.config import Settings
from expunge.errors import ConfigError
from expunge.inference.backend import open_backend
from expunge.inference.engine import Engine


async def test_torch_is_what_is_opened_by_default(tiny_model_folder: Path, tmp_path: Path) -> None:
    settings = Settings(model=str(tiny_model_folder), cache_dir=tmp_path, dtype="float32")
    engine = await open_backend(settings)
    assert isinstance(engine, Engine)


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vllm is installed in this environment")
async def test_a_library_that_is_missing_is_named_with_its_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expunge\[vllm\]"):
        await open_backend(Settings(backend="vllm", cache_dir=tmp_path))
