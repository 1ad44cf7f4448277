from __future__ import annotations

import hashlib
import os
import resource
import signal
import uuid
from pathlib import Path
from typing import Any

import pytest

from expunge.errors import DataLoss, InvalidRequest, NotFound, Unavailable
from expunge.registry.blobs import BlobStore

CONTENT = b"tensor bytes" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    if request.param == "file":
        return BlobStore(f"file://{tmp_path}/blobs")
    return BlobStore(f"memory://{uuid.uuid4().hex}", spool=tmp_path / "spool")


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_blobs_come_back_as_they_were(store: BlobStore) -> None:
    assert not store.exists("jobs/j1/step-3")
    store.put_bytes("jobs/j1/step-3", CONTENT)
    assert store.exists("jobs/j1/step-3")
    assert store.get_bytes("jobs/j1/step-3") == CONTENT
    store.put_bytes("jobs/j1/step-3", b"newer")
    assert store.get_bytes("jobs/j1/step-3") == b"newer"
    store.delete("jobs/j1/step-3")
    store.delete("jobs/j1/step-3")
    with pytest.raises(NotFound, match="step-3"):
        store.get_bytes("jobs/j1/step-3")


def test_an_upload_is_visible_only_when_committed(store: BlobStore, tmp_path: Path) -> None:
    with store.receive() as upload:
        for start in range(0, len(CONTENT), 777):
            upload.write(CONTENT[start : start + 777])
        upload.sync()
        assert hashlib.sha256(upload.path.read_bytes()).hexdigest() == upload.sha256 == DIGEST
        assert not store.exists("adapters/a/model")
        upload.commit("adapters/a/model", sha256=DIGEST.upper(), size=len(CONTENT))
    assert store.get_bytes("adapters/a/model") == CONTENT


def receive(store: BlobStore, max_bytes: int | None = None, **declared: Any) -> None:
    with store.receive(max_bytes) as upload:
        upload.write(CONTENT)
        upload.commit("adapters/a/model", **declared)


@pytest.mark.parametrize("declared", [{"sha256": "0" * 64}, {"size": 5}])
def test_a_wrong_digest_or_size_leaves_nothing(
    store: BlobStore, tmp_path: Path, declared: dict[str, Any]
) -> None:
    with pytest.raises(DataLoss, match="declared"):
        receive(store, **declared)
    assert not store.exists("adapters/a/model")
    assert leftovers(tmp_path) == []


def test_an_upload_that_is_too_large_or_broken_off_leaves_nothing(store: BlobStore, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="larger than 100"):
        receive(store, max_bytes=100)
    with store.receive() as upload:
        upload.write(CONTENT)
    assert leftovers(tmp_path) == []


BAD_KEYS = [
    "",
    "/",
    "/etc/passwd",
    "../x",
    "a/../b",
    "a//b",
    ".hidden",
    "a/.incoming/b",
    "a\\b",
    "a\0b",
    "a b",
    "~",
]


@pytest.mark.parametrize("key", BAD_KEYS)
def test_keys_can_not_leave_the_store(store: BlobStore, tmp_path: Path, key: str) -> None:
    with pytest.raises(InvalidRequest, match="no blob key"):
        store.put_bytes(key, b"x")
    with pytest.raises(InvalidRequest):
        store.get_bytes(key)
    with pytest.raises(InvalidRequest):
        store.delete(key)
    assert leftovers(tmp_path) == []


def test_folders_go_in_and_come_out(store: BlobStore, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "adapter_model.safetensors").write_bytes(CONTENT)
    (source / "sub" / "config.json").write_text("{}")
    store.put_folder(source, "adapters/a")
    assert store.list_keys("adapters/a") == [
        "adapters/a/adapter_model.safetensors",
        "adapters/a/sub/config.json",
    ]
    fetched = store.fetch_folder("adapters/a", tmp_path / "fetched")
    assert (fetched / "adapter_model.safetensors").read_bytes() == CONTENT
    assert (fetched / "sub" / "config.json").read_text() == "{}"
    assert len(leftovers(fetched)) == 2
    with pytest.raises(NotFound):
        store.fetch_folder("adapters/b", tmp_path / "fetched")
    store.delete("adapters/a")
    assert store.list_keys("adapters/a") == []


def test_a_folder_is_not_found_before_it_is_complete(store: BlobStore, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.bin").write_bytes(CONTENT)
    (source / "bad name").write_bytes(CONTENT)
    with pytest.raises(InvalidRequest):
        store.put_folder(source, "adapters/a")
    assert not store.exists("adapters/a")
    with pytest.raises(NotFound, match="no complete folder"):
        store.fetch_folder("adapters/a", tmp_path / "fetched")
    (source / "bad name").unlink()
    store.put_folder(source, "adapters/a")
    assert store.exists("adapters/a")


def _adapter_folder(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    (source / "adapter_config.json").write_text("{}")
    (source / "adapter_model.safetensors").write_bytes(CONTENT)
    return source


def test_a_complete_folder_stays_complete_while_it_is_put_again(store: BlobStore, tmp_path: Path) -> None:
    source = _adapter_folder(tmp_path)
    store.put_folder(source, "adapters/a")
    put_bytes, store.put_bytes = store.put_bytes, _die  # type: ignore[method-assign]
    store.put_folder(source, "adapters/a")
    store.put_bytes = put_bytes  # type: ignore[method-assign]
    assert store.exists("adapters/a")


@pytest.mark.parametrize("damage", ["gone", "cut", "marked"])
def test_putting_a_damaged_folder_again_mends_it(store: BlobStore, tmp_path: Path, damage: str) -> None:
    source = _adapter_folder(tmp_path)
    store.put_folder(source, "adapters/a")
    tensors = "adapters/a/adapter_model.safetensors"
    match damage:
        case "gone":
            store.delete(tensors)
        case "cut":
            store.put_bytes(tensors, CONTENT[:5])
        case "marked":
            store.put_bytes("adapters/a/partial.marker", b"")
    store.put_folder(source, "adapters/a")
    fetched = store.fetch_folder("adapters/a", tmp_path / "fetched")
    assert (fetched / "adapter_model.safetensors").read_bytes() == CONTENT


def test_an_empty_folder_is_not_taken_for_a_complete_one(tmp_path: Path) -> None:
    store = BlobStore(f"file://{tmp_path}/blobs")
    (tmp_path / "blobs" / "adapters" / "a").mkdir(parents=True)
    source = _adapter_folder(tmp_path)
    (source / "bad name").write_bytes(b"x")
    with pytest.raises(InvalidRequest):
        store.put_folder(source, "adapters/a")
    assert not store.exists("adapters/a")


def _die(key: str, data: bytes) -> None:
    raise AssertionError(f"{key} was written")


def test_uploads_left_by_a_dead_process_are_removed_at_start(tmp_path: Path) -> None:
    store = BlobStore(f"file://{tmp_path}/blobs")
    with store.receive() as upload:
        upload.write(CONTENT)
        stale = upload.path.with_name("dead.upload")
        stale.write_bytes(b"x")
        os.utime(stale, (0, 0))
        assert store.remove_stale_uploads() == 1
        upload.commit("adapters/a/model")
    assert not stale.exists()
    assert store.get_bytes("adapters/a/model") == CONTENT


def test_a_full_disk_is_unavailable_and_leaves_nothing(tmp_path: Path) -> None:
    store = BlobStore(f"file://{tmp_path}/blobs")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A file that grows past the limit fails as on a full disk.
    former = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(Unavailable, match="disk space"):
            store.put_bytes("adapters/a/model", CONTENT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, former)
    assert leftovers(tmp_path) == []
