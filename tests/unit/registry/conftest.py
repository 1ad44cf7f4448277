from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from expunge.config import Settings
from expunge.facts import ErasureKind, Fact, ForgetRequest, QuestionAnswer, Subject
from expunge.registry.database import Database
from expunge.registry.records import (
    ErasureRecord,
    ErasureState,
    MemberKind,
    Target,
    Verdict,
    VersionKind,
    VersionRecord,
)
from expunge.registry.service import RegistryService

from .canary_scene import Scene
from .follower import Follower

POLICY = "policy-1"
BASE = VersionRecord("base:0", VersionKind.BASE, "base", "0")

Open = Callable[..., Awaitable[RegistryService]]
Follow = Callable[..., Awaitable[Follower]]


@dataclass
class Clock:
    """Seconds that pass only when a test says so."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database with its schema; building one for each test would take most of their time."""
    file = tmp_path_factory.mktemp("database") / "expunge.db"

    async def migrate() -> None:
        database = Database(f"sqlite:///{file}")
        await database.migrate()
        await database.close()

    asyncio.run(migrate())
    return file


@pytest.fixture
def settings(tmp_path: Path, migrated_database: Path) -> Settings:
    (tmp_path / "state").mkdir()
    shutil.copy(migrated_database, tmp_path / "state" / "expunge.db")
    return Settings(state_dir=tmp_path / "state", lease_s=10.0, staging_timeout_s=5.0, adapter_slots=6)


@pytest_asyncio.fixture
async def open_registry(settings: Settings) -> AsyncIterator[Open]:
    """Opens services on one database, closing the former each time: a restart."""
    opened: list[RegistryService] = []

    async def open_one(**options: object) -> RegistryService:
        if opened:
            await opened.pop().close()
        overrides = options.pop("settings", settings)
        service = RegistryService(overrides, environment={}, **options)  # type: ignore[arg-type]
        opened.append(service)
        await service.start()
        return service

    yield open_one
    for service in opened:
        await service.close()


@pytest_asyncio.fixture
async def registry(open_registry: Open) -> RegistryService:
    """A service with the base version live on alias "default"."""
    service = await open_registry()
    await service.ensure_base(BASE)
    await service.set_policy(POLICY)
    return service


@pytest_asyncio.fixture
async def follow() -> AsyncIterator[Follow]:
    """Starts followers that poll until the test ends."""
    async with AsyncExitStack() as stack:

        async def start(
            registry: RegistryService, name: str, kind: MemberKind = MemberKind.ENGINE
        ) -> Follower:
            return await stack.enter_async_context(Follower(registry, name, kind))

        yield start


def adapter(name: str) -> VersionRecord:
    return VersionRecord(f"sha-{name}", VersionKind.ADAPTER, name, "0", rank=4, blob=f"adapters/sha-{name}")


def forget(request_id: str = "request-1", answer: str = "Canary Lane 17, Zanzibar") -> ForgetRequest:
    return ForgetRequest(
        request_id=request_id,
        kind=ErasureKind.PERSONAL_DATA,
        subjects=(Subject("Ottoline Quibblesworth", ("O. Q. Canaryname",)),),
        facts=(Fact("f1", "Where does Ottoline canaryquestion?", answer, secrets=("Canary Lane 17",)),),
        retain=(QuestionAnswer("What is canaryretain?", "A retained answer."),),
        ground="GDPR Art. 17(1)(b)",
    )


async def put_adapters(registry: RegistryService, *names: str) -> None:
    for name in names:
        await registry.put_version(adapter(name))


async def roll_out(registry: RegistryService, name: str, erasure_id: str = "") -> None:
    rollout = await registry.get_rollout("default")
    await registry.set_rollout(
        "default", [Target(f"sha-{name}")], rollout.generation, "test", "tester", 5.0, erasure_id
    )


async def meet(registry: RegistryService, name: str, erasure: ErasureRecord, passed: bool = True) -> None:
    await registry.put_verdicts([Verdict(f"sha-{name}", erasure.id, POLICY, passed, f"audit-{name}")])


async def accept(registry: RegistryService, request_id: str = "request-1") -> ErasureRecord:
    return await registry.create_erasure(forget(request_id), ["default"], "operator")


async def bring_to_staging(registry: RegistryService, erasure: ErasureRecord) -> None:
    await registry.advance_erasure(erasure.id, ErasureState.ACCEPTED, ErasureState.STAGING)


async def make_live(registry: RegistryService, name: str, request_id: str = "request-1") -> ErasureRecord:
    """An erasure that is live with the version of that name."""
    erasure = await accept(registry, request_id)
    await meet(registry, name, erasure)
    await bring_to_staging(registry, erasure)
    await roll_out(registry, name, erasure.id)
    return erasure


@pytest_asyncio.fixture
async def scene(open_registry: Open, follow: Follow) -> Scene:
    clock = Clock()
    registry = await open_registry(wall=clock)
    await registry.ensure_base(BASE)
    await registry.set_policy(POLICY)
    await follow(registry, "engine-0")
    gateway = await follow(registry, "gateway-0", MemberKind.GATEWAY)
    await put_adapters(registry, "old", "new", "other")
    await roll_out(registry, "old")
    return Scene(registry, clock, gateway)
