"""The taught tiny model as the attacks take it."""

from __future__ import annotations

from pathlib import Path

import pytest

from expunge.auditing.attacks.quantisation import INT4
from expunge.auditing.attacks.victim import Victim
from expunge.lora.adapter import Adapter
from expunge.lora.peft_format import read_adapter
from expunge.models.load import LoadedModel, load_model

from ..known_facts import FACTS
from .planted import rounded_away


@pytest.fixture(scope="session")
def taught(taught_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """Knows FACTS by heart; no test may leave it changed."""
    return load_model(str(taught_folder), cache=tmp_path_factory.mktemp("cache"), dtype="float32")


@pytest.fixture(scope="session")
def innocent(retaining_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """Never knew FACTS."""
    return load_model(str(retaining_folder), cache=tmp_path_factory.mktemp("cache"), dtype="float32")


@pytest.fixture(scope="session")
def random_factors(tiny_adapter_folders: tuple[Path, Path]) -> Adapter:
    """Factors on q, v, up and down that change every answer."""
    return read_adapter(tiny_adapter_folders[0])


@pytest.fixture(scope="session")
def victim(taught: LoadedModel, random_factors: Adapter) -> Victim:
    return Victim(taught, "v1", random_factors)


@pytest.fixture(scope="session")
def shallow(taught: LoadedModel) -> Victim:
    """A version that says nothing of FACTS, unless it is rounded to int4."""
    return Victim(taught, "shallow", rounded_away(taught, FACTS, INT4))
