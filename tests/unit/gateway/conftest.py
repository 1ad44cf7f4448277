"""A whole gateway in the test's process: real gRPC servers, registry, and engine on the tiny model."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
import yaml

from expunge.config import Settings
from expunge.gateway.base_model import shape_key, special_tokens_key, tokenizer_key
from expunge.gateway.gateway import Gateway
from expunge.gateway.tokens import TokenTable
from expunge.inference.engine import Engine
from expunge.inference.limits import EngineLimits
from expunge.lora.shape import ModelShape
from expunge.models.load import load_model
from expunge.models.special_tokens import special_tokens
from expunge.registry.blobs import BlobStore
from expunge.registry.records import VersionKind, VersionRecord
from expunge.registry.service import RegistryService
from gateway.engine_member import EngineMember

ROLES = ("client", "operator", "auditor", "admin", "break-glass")
VERIFICATION_KEY = b"a key of thirty-two bytes length"


def bearer(role: str) -> tuple[tuple[str, str], ...]:
    """Metadata with the test token of `role`."""
    return (("authorization", f"Bearer token-of-{role}"),)


def write_tokens(path: Path) -> Path:
    entries = [
        {
            "token_sha256": sha256(f"token-of-{role}".encode()).hexdigest(),
            "principal": f"some-{role}",
            "role": role,
        }
        for role in ROLES
    ]
    path.write_text(yaml.safe_dump({"tokens": entries}))
    return path


@dataclass
class LiveGateway:
    """What tests reach: channels to the gateway, and what stands behind it."""

    gateway: Gateway
    registry: RegistryService
    engine: Engine
    blobs: BlobStore
    settings: Settings
    base: VersionRecord
    inference: grpc.aio.Channel
    operator: grpc.aio.Channel


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def live(
    tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[LiveGateway]:
    """One gateway for a module's tests; they share its state."""
    folder = tmp_path_factory.mktemp("gateway")
    async for service in serve(tiny_model_folder, folder):
        yield service


async def serve(model_folder: Path, folder: Path, **changes: object) -> AsyncIterator[LiveGateway]:
    settings = Settings(
        state_dir=folder / "state",
        cache_dir=folder / "cache",
        inference_port=0,
        operator_port=0,
        http_port=0,
        metrics_port=0,
        max_rank=16,
        kv_cache_mib=16,
        max_adapter_bytes=8 * 2**20,
        **changes,  # type: ignore[arg-type]
    )
    loaded = load_model(str(model_folder), cache=settings.cache, dtype="float32")
    shape = ModelShape.of(loaded.model, loaded.digest)
    base = VersionRecord(loaded.version, VersionKind.BASE, "base", loaded.digest)
    blobs = BlobStore(settings.resolved_blob_url)
    blobs.put_bytes(shape_key(loaded.digest), shape.to_json().encode())
    blobs.put_bytes(tokenizer_key(loaded.digest), (model_folder / "tokenizer.json").read_bytes())
    special = json.dumps(special_tokens(model_folder)).encode()
    blobs.put_bytes(special_tokens_key(loaded.digest), special)
    registry = RegistryService(settings, environment={})
    await registry.start()
    await registry.ensure_base(base)
    engine = Engine(loaded, EngineLimits.of(settings))
    member = EngineMember(engine, registry, blobs, folder / "staged")
    await member.start()
    gateway = Gateway(
        settings,
        "gateway-0",
        registry=registry,
        engine=engine,
        blobs=blobs,
        tokens=TokenTable.read(write_tokens(folder / "tokens.yaml")),
        verification_key=VERIFICATION_KEY,
    )
    await gateway.start()
    async with (
        grpc.aio.insecure_channel(gateway.addresses.inference) as inference,
        grpc.aio.insecure_channel(gateway.addresses.operator) as operator,
    ):
        yield LiveGateway(gateway, registry, engine, blobs, settings, base, inference, operator)
    await gateway.drain(notice_s=0.0, grace_s=2.0)
    await member.stop()
    await registry.close()


@pytest.fixture
def without_leftovers(live: LiveGateway) -> Iterator[None]:
    """Checks that a test leaves neither a spooled nor a stored file behind."""
    before = _files(live.settings.state)
    yield
    assert _files(live.settings.state) == before


def _files(state: Path) -> set[str]:
    return {
        str(path.relative_to(state))
        for path in state.rglob("*")
        if path.is_file() and "expunge.db" not in path.name
    }
