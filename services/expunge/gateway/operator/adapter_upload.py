"""One upload: bytes into a spool folder, hashed as they come, checked, and gone again unless all is well."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from expunge.errors import DataLoss, InvalidAdapter, InvalidRequest, Unavailable
from expunge.gateway.names import check_version_name
from expunge.lora.files import CONFIG_NAME, TENSORS_NAME
from expunge.rpc.operator.v1 import adapter_pb2 as pb

CHUNK_BYTES = 2**20
MAX_CONFIG_BYTES = 64 * 2**10
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


class Spool:
    """A process's folder for files on their way; it is locked, so that others know whether it still lives.

    Args:
        folder: its name is this process's own; the folders beside it belong to other gateways.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = -1

    def sweep(self) -> None:
        """Remove what killed processes left and make the folder. Only before anything is received."""
        parent = self._folder.parent
        parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _locked(parent):
            shutil.rmtree(self._folder, ignore_errors=True)
            for other in parent.iterdir():
                _remove_unlocked(other)
            self._folder.mkdir(mode=0o700)
            self._lock = _try_lock(self._folder)

    def close(self) -> None:
        """Remove the folder. Only after everything was received."""
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A fresh folder, removed at the end whatever happens.

        Raises:
            Unavailable: the file system failed within; it may be full.
        """
        try:
            with tempfile.TemporaryDirectory(dir=self._folder, prefix="adapter-") as name:
                yield Path(name)
        except OSError as error:
            if error.errno is None:  # a time limit, say; the file system gives numbers
                raise
            raise Unavailable(
                f"the gateway could not keep the upload ({error.strerror}); nothing was changed. Check its "
                "disk space, then send it again",
                reason="SPOOL_FAILED",
            ) from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _try_lock(folder: Path) -> int:
    """An open descriptor that holds the folder's lock, -1 when another process holds it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return -1
    return descriptor


def _remove_unlocked(folder: Path) -> None:
    if (descriptor := _try_lock(folder)) >= 0:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def check_header(header: pb.AdapterHeader, max_bytes: int) -> None:
    """Refuse what can be refused before a byte of the adapter was read.

    Raises:
        InvalidRequest: naming the field of the header.
    """
    check_version_name("header.name", header.name)
    if not _SHA256.fullmatch(header.sha256):
        raise InvalidRequest.of("header.sha256", "must be 64 hex digits")
    if not 1 <= header.size_bytes <= max_bytes:
        raise InvalidRequest.of(
            "header.size_bytes", f"is {header.size_bytes:,}; 1 to {max_bytes:,} bytes are accepted"
        )
    if not header.base_digest:
        raise InvalidRequest.of("header.base_digest", "is empty; send the digest of the adapter's base model")
    if not 1 <= len(header.config_json) <= MAX_CONFIG_BYTES:
        raise InvalidRequest.of(
            "header.config_json", f"must hold adapter_config.json, at most {MAX_CONFIG_BYTES:,} bytes"
        )


async def receive_adapter(
    messages: AsyncIterator[pb.PushAdapterRequest], header: pb.AdapterHeader, folder: Path
) -> None:
    """Write PEFT's two files to `folder` from the chunks that follow the header.

    Raises:
        InvalidRequest: a message that is no chunk, or too large a one.
        InvalidAdapter: more bytes than declared; noticed at the first byte too many.
        DataLoss: fewer bytes than declared, or another sha256.
    """
    digest, received = hashlib.sha256(), 0
    (folder / CONFIG_NAME).write_bytes(header.config_json)
    with (folder / TENSORS_NAME).open("wb") as file:
        async for message in messages:
            chunk = _chunk_of(message)
            received += len(chunk)
            if received > header.size_bytes:
                raise InvalidAdapter.of(
                    "chunk",
                    f"the upload is larger than the declared {header.size_bytes:,} bytes; correct the header",
                )
            await asyncio.to_thread(_write, file.write, digest.update, chunk)
    if received < header.size_bytes:
        raise DataLoss(
            f"the upload ended after {received:,} of {header.size_bytes:,} declared bytes; send it again"
        )
    if digest.hexdigest() != header.sha256.lower():
        raise DataLoss(f"the bytes do not match the declared sha256 {header.sha256}; send them again")


def _chunk_of(message: pb.PushAdapterRequest) -> bytes:
    if message.WhichOneof("part") != "chunk":
        raise InvalidRequest.of("part", "only the first message may be a header; the others are chunks")
    if len(message.chunk) > CHUNK_BYTES:
        raise InvalidRequest.of(
            "chunk", f"has {len(message.chunk):,} bytes; at most {CHUNK_BYTES:,} are allowed"
        )
    return message.chunk


def _write(write: Callable[[bytes], int], update: Callable[[bytes], None], chunk: bytes) -> None:
    update(chunk)
    write(chunk)
