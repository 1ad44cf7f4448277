"""The digest names the bytes that matter, and a cached one is never trusted for changed files."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from expunge.errors import ModelError
from expunge.models.manifest import base_version_id, is_base, manifest_digest, weight_files


@pytest.fixture
def folder(tiny_model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model_folder, tmp_path / "model"))


def cached_digests(cache: Path) -> dict[str, list[object]]:
    (path,) = (cache / "digests").iterdir()
    found: dict[str, list[object]] = json.loads(path.read_text())
    return found


def test_digest_is_the_same_wherever_the_folder_lies(folder: Path, tiny_model_folder: Path) -> None:
    assert manifest_digest(folder) == manifest_digest(tiny_model_folder)


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "model.safetensors", "chat_template.jinja"]
)
def test_one_changed_bit_changes_the_digest(folder: Path, name: str) -> None:
    before = manifest_digest(folder)
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)
    assert manifest_digest(folder) != before


def test_files_that_loading_does_not_read_do_not_count(folder: Path) -> None:
    before = manifest_digest(folder)
    (folder / "README.md").write_text("hello")
    (folder / "consolidated.safetensors").write_bytes(b"not loaded")
    assert manifest_digest(folder) == before


def test_cached_digest_is_not_trusted_once_a_file_changed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    future = time.time_ns() + 60 * 10**9
    monkeypatch.setattr("expunge.models.manifest.time.time_ns", lambda: future)
    before = manifest_digest(folder, cache=cache)
    assert "model.safetensors" in cached_digests(cache)
    weights = folder / "model.safetensors"
    stat = weights.stat()
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # same size, same modification time
    assert manifest_digest(folder, cache=cache) == manifest_digest(folder) != before


def test_fresh_files_are_hashed_every_time(folder: Path, tmp_path: Path) -> None:
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    assert manifest_digest(folder, cache=tmp_path) == manifest_digest(folder)
    entries = cached_digests(tmp_path) if (tmp_path / "digests").exists() else {}
    assert "config.json" not in entries


def test_damaged_cache_is_ignored(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    future = time.time_ns() + 60 * 10**9
    monkeypatch.setattr("expunge.models.manifest.time.time_ns", lambda: future)
    expected = manifest_digest(folder, cache=tmp_path)
    (path,) = (tmp_path / "digests").iterdir()
    for damage in ("[1, 2]", "{", '{"model.safetensors": 3}'):
        path.write_text(damage)
        assert manifest_digest(folder, cache=tmp_path) == expected


def test_index_that_names_a_file_outside_the_folder_is_refused(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": "../secret"}}))
    with pytest.raises(ModelError, match="outside"):
        weight_files(folder)


def test_base_version_is_named_by_the_digest() -> None:
    assert base_version_id("ab" * 32) == "base:" + "ab" * 32
    assert is_base(base_version_id("ab"))
    assert not is_base("ab" * 32)
