"""Blobs: adapters and checkpoints in a local folder, in memory, or in any store that fsspec knows.

Keys are relative paths such as "adapters/<version id>/adapter_model.safetensors". A blob is visible whole or
not at all. All methods block; call them from a thread where a loop must stay free.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import fsspec

from expunge.errors import InvalidRequest, NotFound
from expunge.registry.upload import Upload, storage_errors, sync_folder

_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._:=+-]*")
_INCOMING = ".incoming"
_PARTIAL = "partial.marker"  # lies in a folder while `put_folder` writes it
_STALE_S = 3600.0


def adapter_key(version: str) -> str:
    """Where the files of an adapter version are."""
    return f"adapters/{version}"


class BlobStore:
    """A blob store at a URL.

    Args:
        url: "file:///folder", "memory://name", or any other fsspec URL ("s3://bucket/prefix").
        spool: where uploads wait before they go to a store that is no local folder; the system's temporary
            folder by default.
    """

    def __init__(self, url: str, *, spool: Path | None = None) -> None:
        self.url = url
        filesystem, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        self._filesystem: Any = filesystem
        self._root = str(root).rstrip("/")
        protocols = filesystem.protocol if isinstance(filesystem.protocol, tuple) else (filesystem.protocol,)
        self._local = Path(self._root) if "file" in protocols else None
        self._spool = self._local / _INCOMING if self._local else spool

    @contextlib.contextmanager
    def receive(self, max_bytes: int | None = None) -> Iterator[Upload]:
        """An upload: written and hashed in this context, visible only once committed, removed otherwise.

        In a local store it is written on the same file system, so that committing is a rename.

        Raises:
            InvalidRequest: more than `max_bytes` were written.
            DataLoss: on commit, when the digest or size is not the declared one.
            Unavailable: the store failed, for instance because its disk is full.
        """
        with storage_errors("receive an upload"):
            folder = self._spool or Path(tempfile.gettempdir())
            folder.mkdir(parents=True, exist_ok=True)
            upload = Upload(folder / f"{secrets.token_hex(12)}.upload", max_bytes, self._move_in)
        try:
            yield upload
        finally:
            upload.discard()

    def put_bytes(self, key: str, data: bytes) -> None:
        """Store a blob, replacing one of the same key. Raises Unavailable."""
        _check(key)
        with self.receive() as upload:
            upload.write(data)
            upload.commit(key)

    def get_bytes(self, key: str) -> bytes:
        """A blob's contents. Raises NotFound, Unavailable."""
        with storage_errors(f"read blob {key}", key):
            return bytes(self._filesystem.cat_file(self._path(key)))

    def exists(self, key: str) -> bool:
        """Whether there is a blob, or a complete folder, of that key."""
        with storage_errors(f"look for blob {key}"):
            path = self._path(key)
            return bool(self._filesystem.exists(path)) and not self._filesystem.exists(f"{path}/{_PARTIAL}")

    def delete(self, key: str) -> None:
        """Remove a blob, or a folder with all that is in it; nothing happens when there is none."""
        with storage_errors(f"delete blob {key}"):
            path = self._path(key)
            if self._filesystem.exists(path):
                with contextlib.suppress(FileNotFoundError):  # somebody else has removed it meanwhile
                    self._filesystem.rm(path, recursive=True)

    def list_keys(self, prefix: str) -> list[str]:
        """Keys of all blobs in a folder and its sub-folders, sorted."""
        with storage_errors(f"list blobs in {prefix}"):
            path = self._path(prefix)
            if not self._filesystem.exists(path):
                return []
            found = (str(name)[len(self._root) :].strip("/") for name in self._filesystem.find(path))
            return sorted(key for key in found if not key.endswith(f"/{_PARTIAL}"))

    def put_folder(self, local_folder: Path, key: str) -> None:
        """Store every file of a folder under `key`. Until all are there `fetch_folder` does not find it.

        A folder that is complete is not opened again, since others may be reading it: only files that it
        lacks, or that have another size, are put in. So `key` must name the contents.

        Raises:
            NotFound: the local folder does not exist or is empty.
            Unavailable: the store failed; calling again completes it.
        """
        files = sorted(path for path in local_folder.rglob("*") if path.is_file())
        if not files:
            raise NotFound(f"there are no files to store in {local_folder}")
        named = {f"{key}/{file.relative_to(local_folder).as_posix()}": file for file in files}
        if self.exists(key) and self.list_keys(key):
            named = {name: file for name, file in named.items() if self._size(name) != file.stat().st_size}
        else:
            self.put_bytes(f"{key}/{_PARTIAL}", b"")
        for name, file in named.items():
            with file.open("rb") as stream:
                self._put_stream(name, stream)
        self.delete(f"{key}/{_PARTIAL}")

    def fetch_folder(self, key: str, local_folder: Path) -> Path:
        """Copy every blob under `key` into `local_folder` and return it.

        Files that are there with the right size are replaced all the same: only the store is to be trusted.

        Raises:
            NotFound: there is no complete folder of that key.
            Unavailable: the store failed.
        """
        names = self.list_keys(key)
        if not names or not self.exists(key):
            raise NotFound(f"the blob store has no complete folder '{key}'")
        for name in names:
            target = local_folder / name[len(key.strip("/")) + 1 :]
            with storage_errors(f"fetch blob {name}", name):
                target.parent.mkdir(parents=True, exist_ok=True)
                temporary = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")
                try:
                    self._filesystem.get_file(self._path(name), str(temporary))
                    os.replace(temporary, target)
                finally:
                    temporary.unlink(missing_ok=True)
        return local_folder

    def remove_stale_uploads(self, older_than_s: float = _STALE_S) -> int:
        """Remove what interrupted uploads have left behind; returns how many. For the start of a service.

        Younger files are kept: another process may be writing them.
        """
        if self._local is None or self._spool is None or not self._spool.is_dir():
            return 0
        removed = 0
        with storage_errors("remove stale uploads"):
            for file in self._spool.glob("*.upload"):
                with contextlib.suppress(FileNotFoundError):  # its writer has just finished
                    if time.time() - file.stat().st_mtime >= older_than_s:
                        file.unlink()
                        removed += 1
        return removed

    def _size(self, key: str) -> int | None:
        """Bytes of a blob; None where there is none."""
        with storage_errors(f"look for blob {key}"):
            try:
                return int(self._filesystem.size(self._path(key)))
            except FileNotFoundError:
                return None

    def _put_stream(self, key: str, stream: BinaryIO) -> None:
        with self.receive() as upload:
            while chunk := stream.read(1 << 20):
                upload.write(chunk)
            upload.commit(key)

    def _move_in(self, temporary: Path, key: str) -> None:
        path = self._path(key)
        if self._local is None:
            self._filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
            self._filesystem.put_file(str(temporary), path)
            temporary.unlink()
            return
        target = Path(path)
        created = [folder for folder in target.parents if not folder.exists()]
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(temporary, target)
        for folder in (target.parent, *(folder.parent for folder in created)):
            sync_folder(folder)

    def _path(self, key: str) -> str:
        _check(key)
        return f"{self._root}/{key.strip('/')}"


def _check(key: str) -> None:
    """Raise InvalidRequest unless `key` is a relative path of plain names; ".." and the like are none."""
    if not all(_SEGMENT.fullmatch(part) for part in key.rstrip("/").split("/")):
        raise InvalidRequest.of(
            "key", f"{key[:200]!r} is no blob key: use names of letters, digits and ._:=+- joined by '/'"
        )
