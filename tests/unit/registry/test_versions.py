from __future__ import annotations

from dataclasses import replace

import pytest

from expunge.errors import AlreadyExists, FailedPrecondition, InvalidRequest, NotFound
from expunge.registry.records import VersionState
from expunge.registry.service import RegistryService

from .conftest import BASE, Follow, adapter, put_adapters, roll_out


async def test_a_version_is_found_by_id_and_by_name(registry: RegistryService) -> None:
    stored = await registry.put_version(adapter("a"))
    assert stored.created_at > 0
    assert await registry.get_version("sha-a") == stored
    assert await registry.get_version("a") == stored
    with pytest.raises(NotFound, match="'b'"):
        await registry.get_version("b")


async def test_a_version_never_changes(registry: RegistryService) -> None:
    stored = await registry.put_version(adapter("a"))
    assert await registry.put_version(replace(adapter("a"), rank=64, name="b")) == stored


async def test_a_name_belongs_to_one_version(registry: RegistryService) -> None:
    await put_adapters(registry, "a")
    with pytest.raises(AlreadyExists, match="sha-a"):
        await registry.put_version(replace(adapter("b"), name="a"))


async def test_versions_without_a_name_do_not_clash(registry: RegistryService) -> None:
    for name in ("a", "b"):
        await registry.put_version(replace(adapter(name), name=""))
    assert [version.id for version in await registry.list_versions()] == [BASE.id, "sha-a", "sha-b"]


async def test_a_version_in_use_is_not_retired(registry: RegistryService, follow: Follow) -> None:
    await follow(registry, "engine-0")
    await put_adapters(registry, "a", "b")
    await roll_out(registry, "a")
    await registry.stage("b", 5.0)
    for version in ("a", "b"):
        with pytest.raises(FailedPrecondition, match="in use"):
            await registry.retire_version(version, "tester")
    with pytest.raises(FailedPrecondition, match="never retired"):
        await registry.retire_version(BASE.id, "tester")


async def test_a_retired_version_keeps_its_record_and_is_no_rollback_target(
    registry: RegistryService, follow: Follow
) -> None:
    await follow(registry, "engine-0")
    await put_adapters(registry, "a", "b")
    await roll_out(registry, "a")
    await roll_out(registry, "b")
    for _ in range(2):
        assert (await registry.retire_version("a", "tester")).state is VersionState.RETIRED
    assert "sha-a" not in {version.id for version in registry.hub.snapshot.wanted}
    assert [version.id for version in await registry.list_versions()] == [BASE.id, "sha-b"]
    assert len(await registry.list_versions(include_retired=True)) == 3
    assert (await registry.get_version("a")).state is VersionState.RETIRED


async def test_a_database_serves_one_base_model_only(registry: RegistryService) -> None:
    with pytest.raises(FailedPrecondition, match="belongs to base model base:0"):
        await registry.ensure_base(replace(BASE, id="base:other", name="other"))
    with pytest.raises(InvalidRequest):
        await registry.ensure_base(adapter("a"))
