"""The fingerprint of a base model: which bytes make it what it is.

Two folders with the same digest load into the same model and tokenizer. Free of torch, since the registry
names base versions too.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from expunge.errors import ModelError

BASE_PREFIX = "base:"
INDEX_NAME = "model.safetensors.index.json"
WEIGHTS_NAME = "model.safetensors"
_SETTLED_NS = 2 * 10**9
_NAMES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
    "chat_template.jinja",
    "chat_template.json",
)


def base_version_id(digest: str) -> str:
    """The id under which the base model with this manifest digest is served as a version."""
    return BASE_PREFIX + digest


def digest_of_base(version: str) -> str:
    """The manifest digest that the id of a base version holds."""
    return version.removeprefix(BASE_PREFIX)


def is_base(version: str) -> bool:
    """Whether a version id names a base model rather than an adapter."""
    return version.startswith(BASE_PREFIX)


def weight_files(folder: Path) -> tuple[str, ...]:
    """Names of the safetensors files a model folder loads, sorted: its one file, or every shard of its index.

    Raises:
        ModelError: neither exists, or the index is malformed or names a file outside the folder.
    """
    index = folder / INDEX_NAME
    if not index.is_file():
        if (folder / WEIGHTS_NAME).is_file():
            return (WEIGHTS_NAME,)
        raise ModelError(
            f"model folder {folder} has neither {WEIGHTS_NAME} nor {INDEX_NAME}; "
            "only safetensors weights are loaded, convert the model first"
        )
    try:
        shards = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{index} is no valid shard index; download the model again") from error
    if not shards:
        raise ModelError(f"{index} names no shard; download the model again")
    for shard in shards:
        if not isinstance(shard, str) or Path(shard).name != shard:
            raise ModelError(
                f"{index} names the file {shard!r} outside the model's folder; do not use this model"
            )
    return (INDEX_NAME, *shards)


def manifest_digest(folder: Path, *, cache: Path | None = None) -> str:
    """sha256 (hex) over the sorted pairs of name and sha256 of every file that loading reads.

    With `cache`, the digests of single files are kept there, and reused only while size, times and inode are
    unchanged since they were computed.

    Raises:
        ModelError: a file is missing or unreadable.
    """
    present = [name for name in _NAMES if (folder / name).is_file()]
    known = _DigestCache.open(folder, cache) if cache is not None else None
    total = hashlib.sha256()
    for name in sorted({*present, *weight_files(folder)}):
        path = folder / name
        try:
            digest = known.digest(path) if known is not None else file_digest(path)
        except OSError as error:
            raise ModelError(f"cannot read {path} ({error.strerror}); the model is partial") from error
        total.update(f"{name}\0{digest}\n".encode())
    if known is not None:
        known.save()
    return total.hexdigest()


def file_digest(path: Path) -> str:
    """sha256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _DigestCache:
    """Digests of one folder's files, each trusted only while its stat is what it was."""

    def __init__(self, path: Path, entries: dict[str, Any]) -> None:
        self._path = path
        self._entries = entries
        self._changed = False

    @classmethod
    def open(cls, folder: Path, cache: Path) -> _DigestCache:
        key = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()
        path = cache / "digests" / f"{key}.json"
        try:
            entries = json.loads(path.read_text())
        except (OSError, ValueError):
            entries = {}  # absent or damaged: everything is hashed again
        return cls(path, entries if isinstance(entries, dict) else {})

    def digest(self, path: Path) -> str:
        stamp = _stamp(path)
        entry = self._entries.get(path.name)
        if isinstance(entry, list) and len(entry) == 2 and entry[0] == stamp and isinstance(entry[1], str):
            return entry[1]
        digest = file_digest(path)
        # a file written a moment ago may change again within one tick of its clock: hash it next time too
        is_settled = time.time_ns() - max(stamp[1], stamp[2]) > _SETTLED_NS
        if is_settled and _stamp(path) == stamp:
            self._entries[path.name] = [stamp, digest]
            self._changed = True
        return digest

    def save(self) -> None:
        if not self._changed:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=self._path.parent, delete=False) as file:
            json.dump(self._entries, file)
        os.replace(file.name, self._path)


def _stamp(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
