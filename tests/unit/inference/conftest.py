"""The tiny model as the inference package takes it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from expunge.config import Settings
from expunge.inference.engine import Engine
from expunge.inference.limits import EngineLimits
from expunge.inference.local import LocalModel
from expunge.inference.version_follower import VersionFollower
from expunge.lora.adapter import Adapter
from expunge.lora.files import version_id
from expunge.lora.peft_format import read_adapter
from expunge.models.load import LoadedModel, load_model
from expunge.registry.blobs import BlobStore
from expunge.registry.records import VersionKind, VersionRecord
from expunge.registry.service import RegistryService

from .engine_calls import LIMITS, Gate
from .replica import Replica


@pytest.fixture
def loaded(tiny_model_folder: Path, tmp_path: Path) -> LoadedModel:
    """The tiny base model, fp32, fresh."""
    return load_model(str(tiny_model_folder), cache=tmp_path, dtype="float32")


@pytest.fixture(scope="session")
def kernels_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where kernels are compiled once for all tests."""
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture
def adapters(tiny_adapter_folders: tuple[Path, Path]) -> tuple[Adapter, Adapter]:
    """Two adapters that answer differently from the base and from each other."""
    first, second = tiny_adapter_folders
    return read_adapter(first), read_adapter(second)


@pytest.fixture
def local(loaded: LoadedModel, adapters: tuple[Adapter, Adapter]) -> LocalModel:
    """The base version, "one" and "two", resident."""
    model = LocalModel(loaded, slots=4, max_rank=8, max_rows=4)
    model.load_adapter("one", adapters[0])
    model.load_adapter("two", adapters[1])
    return model


@pytest_asyncio.fixture
async def replica(
    loaded: LoadedModel, tiny_adapter_folders: tuple[Path, Path], tmp_path: Path
) -> AsyncIterator[Replica]:
    """A follower with its engine, a real registry and blob store, and versions in them."""
    settings = Settings(state_dir=tmp_path / "state", cache_dir=tmp_path / "cache", adapter_slots=4)
    blobs = BlobStore(settings.resolved_blob_url)
    records = []
    for folder in tiny_adapter_folders:
        identity = version_id(folder)
        blobs.put_folder(folder, f"adapters/{identity}")
        records.append(
            VersionRecord(
                identity, VersionKind.ADAPTER, folder.name, loaded.digest, blob=f"adapters/{identity}"
            )
        )
    good, damaged = records
    blobs.put_bytes(f"{damaged.blob}/adapter_model.safetensors", b"nothing")
    base = VersionRecord(loaded.version, VersionKind.BASE, "base", loaded.digest)
    registry = RegistryService(settings, environment={})
    await registry.start()
    await registry.ensure_base(base)
    for record in records:
        await registry.put_version(record)
    engine = Engine(loaded, EngineLimits(slots=4, max_rank=8))
    engine.start()
    staging = settings.cache / "staging"
    follower = VersionFollower(registry, engine, blobs, "engine-0", staging)
    yield Replica(registry, engine, follower, blobs, base, good, damaged, staging)
    engine.close()
    await registry.close()


@pytest.fixture
def versions(loaded: LoadedModel, tiny_adapter_folders: tuple[Path, Path]) -> list[VersionRecord]:
    """The base version and two adapters."""
    base = VersionRecord(loaded.version, VersionKind.BASE, "base", loaded.digest)
    return [base, *(_record_of(folder, loaded) for folder in tiny_adapter_folders)]


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest_asyncio.fixture
async def engine(
    loaded: LoadedModel,
    versions: list[VersionRecord],
    tiny_adapter_folders: tuple[Path, Path],
    gate: Gate,
    kernels_folder: Path,
) -> AsyncIterator[Engine]:
    """Running, with all three versions staged."""
    engine = Engine(loaded, LIMITS, gate, kernels_folder=kernels_folder)
    engine.start()
    for record, folder in zip(versions, (None, *tiny_adapter_folders), strict=True):
        await engine.load_version(record, folder)
    yield engine
    gate.open()
    engine.close()


@pytest.fixture
def alone(
    tiny_model_folder: Path, tmp_path: Path, versions: list[VersionRecord], adapters: tuple[Adapter, Adapter]
) -> LocalModel:
    """The same versions in a model of its own, to compare with."""
    loaded = load_model(str(tiny_model_folder), cache=tmp_path, dtype="float32")
    local = LocalModel(loaded, slots=4, max_rank=8)
    for record, adapter in zip(versions[1:], adapters, strict=True):
        local.load_adapter(record.id, adapter)
    return local


@pytest.fixture
def plain(tiny_model: tuple[PreTrainedModel, PreTrainedTokenizerBase]) -> PreTrainedModel:
    """The same base model as transformers runs it."""
    return tiny_model[0]


def generate_plainly(model: PreTrainedModel, prompt: list[int], new_tokens: int) -> list[int]:
    """What `transformers` generates greedily, without the EOS."""
    with torch.inference_mode():
        whole = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=new_tokens,
            do_sample=False,
        )[0].tolist()
    answer = whole[len(prompt) :]
    eos = model.generation_config.eos_token_id
    return answer[: answer.index(eos)] if eos in answer else answer


def _record_of(folder: Path, loaded: LoadedModel) -> VersionRecord:
    return VersionRecord(version_id(folder), VersionKind.ADAPTER, folder.name, loaded.digest)
