"""Every backend in turn, each with the same tiny model; one that is not installed is skipped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import pytest_asyncio

from expunge.inference.backend import Backend
from expunge.inference.engine import Engine
from expunge.models.load import load_model, load_outline
from expunge.models.manifest import base_version_id, manifest_digest
from expunge.registry.records import VersionKind, VersionRecord
from tiny_model import build_tiny_adapter, build_tiny_model, teach_tiny_model

from .reference import Reference
from .stage import LIMITS, Clock, Stage, Version

KNOWN = (
    ("Where was Mira Voss born?", "Mira Voss was born in Port Ellery."),
    ("What does Tobin Hale do?", "Tobin Hale repairs clocks."),
)
# The kernels of vLLM for CPUs have no attention for heads as narrow as the other tests' model has.
HEAD_WIDTH = 32

Opener = Callable[[Path, Clock], Backend]


def _open_torch(folder: Path, clock: Clock) -> Backend:
    return Engine(load_model(str(folder), cache=folder.parent, dtype="float32"), LIMITS, clock)


def _open_vllm(folder: Path, clock: Clock) -> Backend:
    from expunge.inference.vllm.arguments import prepare_environment

    prepare_environment()
    from expunge.inference.vllm.engine import VllmEngine

    outline = load_outline(str(folder), cache=folder.parent, dtype="float32")
    return VllmEngine.open(outline, LIMITS, clock=clock)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that knows two answers by heart, and so ends them."""
    root = tmp_path_factory.mktemp("contract")
    plain = build_tiny_model(root / "plain", head_width=HEAD_WIDTH)
    return teach_tiny_model(root / "model", plain, KNOWN)


@pytest.fixture(scope="session")
def versions(model_folder: Path) -> dict[str, Version]:
    """The base version and four adapters that answer differently."""
    digest = manifest_digest(model_folder)
    base = VersionRecord(base_version_id(digest), VersionKind.BASE, "base", digest)
    adapters = {
        name: Version.of(build_tiny_adapter(model_folder.parent / name, model_folder, seed=seed), digest)
        for seed, name in enumerate(("one", "two", "three", "four"), 1)
    }
    return {"base": Version(base, None), **adapters}


@pytest.fixture(scope="session", params=["torch", "vllm"])
def opener(request: pytest.FixtureRequest) -> Opener:
    """Opens one kind of backend; blocks."""
    if request.param == "vllm" and find_spec("vllm") is None:
        pytest.skip("vllm is not installed in this environment; `make test-vllm` makes one that has it")
    return {"torch": _open_torch, "vllm": _open_vllm}[request.param]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def running(opener: Opener, model_folder: Path, versions: dict[str, Version]) -> AsyncIterator[Stage]:
    """The backend, started once for all tests: vLLM takes a minute."""
    clock = Clock()
    backend = await asyncio.to_thread(opener, model_folder, clock)
    backend.start()
    yield Stage(backend, clock, Reference(model_folder), **versions)
    await asyncio.to_thread(backend.close)


@pytest_asyncio.fixture(loop_scope="session")
async def stage(running: Stage) -> Stage:
    """The backend with base, one and two staged."""
    await running.reset()
    return running
