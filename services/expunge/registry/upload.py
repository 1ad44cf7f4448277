"""One upload into the blob store: hashed while it is written, nothing visible until it is committed."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from expunge.errors import DataLoss, InvalidRequest, NotFound, Unavailable


class Upload:
    """A file that is being received; made by `BlobStore.receive`.

    Args:
        path: where it is written; readable by its owner only.
        max_bytes: refuse more than that.
        move_in: puts the finished file at a key, atomically.
    """

    def __init__(self, path: Path, max_bytes: int | None, move_in: Callable[[Path, str], None]) -> None:
        self.path = path
        self.size = 0  # bytes written so far
        self._max_bytes = max_bytes
        self._move_in = move_in
        self._hash = hashlib.sha256()
        self._stream = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")

    @property
    def sha256(self) -> str:
        """Hex digest of what was written so far."""
        return self._hash.hexdigest()

    def write(self, chunk: bytes) -> None:
        """Append bytes. Raises InvalidRequest when they are too many."""
        self.size += len(chunk)
        if self._max_bytes is not None and self.size > self._max_bytes:
            raise InvalidRequest.of("chunk", f"the upload is larger than {self._max_bytes} bytes")
        with storage_errors("receive an upload"):
            self._stream.write(chunk)
        self._hash.update(chunk)

    def sync(self) -> None:
        """Put everything written so far on disk, so that `path` can be read."""
        with storage_errors("receive an upload"):
            self._stream.flush()
            os.fsync(self._stream.fileno())

    def commit(self, key: str, *, sha256: str = "", size: int | None = None) -> None:
        """Make the upload visible as blob `key`, on disk and synced. Nothing can be written afterwards.

        Raises:
            DataLoss: the bytes are not those that were declared by `sha256` (hex) and `size`.
            InvalidRequest: a bad key.
        """
        if size is not None and size != self.size:
            raise DataLoss(
                f"the upload has {self.size} bytes, but {size} were declared; send it again",
                reason="SIZE_MISMATCH",
            )
        if sha256 and sha256.lower() != self.sha256:
            raise DataLoss(
                f"the upload's sha256 is {self.sha256}, but {sha256} was declared; send it again",
                reason="DIGEST_MISMATCH",
            )
        self.sync()
        with storage_errors(f"store blob {key}"):
            self._stream.close()
            self._move_in(self.path, key)

    def discard(self) -> None:
        """Remove what was not committed."""
        with contextlib.suppress(OSError):  # a full disk; what could not be written is thrown away anyhow
            self._stream.close()
        self.path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Put a folder's entries on disk: a rename in it survives a power cut only after that."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def storage_errors(action: str, key: str = "") -> Iterator[None]:
    """Turn what the file system or store raises into domain errors: NotFound for `key`, else Unavailable."""
    try:
        yield
    except OSError as error:
        if key and isinstance(error, FileNotFoundError):
            raise NotFound(f"the blob store has no '{key}'") from None
        raise Unavailable(
            f"the blob store could not {action} ({error.strerror or type(error).__name__}); check its disk "
            "space and that it can be reached, then retry"
        ) from error
