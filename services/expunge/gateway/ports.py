"""Who may listen on a port: replicas of one service share it, a second service is refused.

During a rolling update a gateway's successor listens before the old one has left, so gateways listen with
SO_REUSEPORT. That alone would let a second, unrelated service of the same user take a share of the
connections without anybody noticing; hence a lock file for each port that names the service that holds it.
"""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from expunge.errors import ConfigError

_TRIES = 16


class PortClaims:
    """The ports that this process holds for one service, until `release`.

    Args:
        service: names the service; equal for all of its replicas.
        folder: where the lock files are; by default the machine's folder for temporary files.
    """

    def __init__(self, service: str, host: str, folder: Path | None = None) -> None:
        self._service = service
        self._host = host
        # SO_REUSEPORT shares between processes of one user only, and so do the locks.
        self._folder = (folder or Path(tempfile.gettempdir())) / f"expunge-ports-{os.getuid()}"
        self._descriptors: list[int] = []

    def share(self, setting: str, port: int) -> None:
        """Claim `port` together with other replicas of this service; port 0 needs no claim.

        Args:
            setting: name of the setting, for the error.

        Raises:
            ConfigError: another service, or another program, holds the port.
        """
        if port:
            with self._exclusive():
                self._claim(setting, port, is_shared=True)

    def take_first(self, setting: str, port: int) -> int:
        """Claim the first port from `port` on that no other replica of this service has; returns it.

        Raises:
            ConfigError: another service, or another program, holds a port on the way; or too many replicas.
        """
        if not port:
            return 0
        with self._exclusive():
            for candidate in range(port, port + _TRIES):
                if self._claim(setting, candidate, is_shared=False):
                    return candidate
        raise self._taken(setting, port, f"{_TRIES} replicas of this service, like the ones after it")

    def release(self) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """One claim at a time on a machine: nobody sees a lock whose holder has not written its name yet."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        descriptor = _open(self._folder / "claims.lock")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _claim(self, setting: str, port: int, *, is_shared: bool) -> bool:
        """Whether the port is ours now; False when another replica has it and it can't be shared."""
        descriptor = _open(self._folder / f"{port}.lock")
        try:
            if _is_unlocked(descriptor):
                self._require_free(setting, port)
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, self._service.encode(), 0)
            elif os.pread(descriptor, 4096, 0).decode() != self._service:
                raise self._taken(setting, port, "another Expunge service")
            elif not is_shared:
                os.close(descriptor)
                return False
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptors.append(descriptor)
        return True

    def _require_free(self, setting: str, port: int) -> None:
        """Nobody of ours holds the port, so a plain bind must succeed."""
        with socket.socket(socket.AF_INET6 if ":" in self._host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self._host, port))
            except OSError as error:
                raise self._taken(setting, port, "another program") from error

    def _taken(self, setting: str, port: int, holder: str) -> ConfigError:
        return ConfigError(
            f"{setting} {port} on {self._host} is taken by {holder}; stop it, or set "
            f"EXPUNGE_{setting.upper()} to another port (0: any free one)",
            reason="PORT_TAKEN",
            metadata={"port": str(port)},
        )


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _is_unlocked(descriptor: int) -> bool:
    """Whether nobody holds the lock; then it is held exclusively."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
