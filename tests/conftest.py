"""Fixtures that every tier shares."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before transformers is imported: no test may ask a hub
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from tiny_model import build_tiny_adapter, build_tiny_model

# No example fails because the machine is busy: times are for benchmarks.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny random Llama in safetensors with its own tokenizer; never write to it."""
    return build_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def tiny_model(tiny_model_folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A fresh fp32 copy of the tiny model, and its tokenizer."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype="float32").eval()
    return model, AutoTokenizer.from_pretrained(tiny_model_folder)


@pytest.fixture(scope="session")
def tiny_adapter_folders(
    tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Folders of two PEFT adapters for the tiny model that answer visibly differently."""
    folder = tmp_path_factory.mktemp("tiny-adapters")
    first, second = (
        build_tiny_adapter(folder / name, tiny_model_folder, seed=seed)
        for name, seed in (("one", 1), ("two", 2))
    )
    return first, second
