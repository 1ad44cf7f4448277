"""What a running service leaves in its state folder so that commands on the same machine find it.

`service.json` holds the addresses and the process id, `credentials.yaml` one plain token for each role. Both
are readable by the owner only, and the service file goes away when the service stops.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import yaml

from expunge.errors import ConfigError

ROLES = ("client", "operator", "auditor", "admin")


@dataclass(frozen=True)
class ServiceFile:
    """Where a service listens, as host:port each, and its process id."""

    inference: str
    operator: str
    http: str
    metrics: str
    pid: int

    def write(self, state: Path) -> Path:
        return _write_private(_path(state), json.dumps(asdict(self), indent=2))

    @staticmethod
    def read(state: Path) -> ServiceFile | None:
        """The service that runs on `state`, or None."""
        try:
            return ServiceFile(**json.loads(_path(state).read_text()))
        except FileNotFoundError:
            return None

    @staticmethod
    def remove(state: Path) -> None:
        _path(state).unlink(missing_ok=True)


class StateClaim:
    """The right of this process to run a service on a state folder, until `release` or its death."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, state: Path) -> StateClaim:
        """Claims `state`.

        Raises:
            ConfigError: a service runs on it already.
        """
        descriptor = os.open(state / "service.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise ConfigError(
                f"a service runs on the state folder {state} already; stop it, or set EXPUNGE_STATE_DIR",
                reason="ALREADY_RUNNING",
            ) from None
        return cls(descriptor)

    def release(self) -> None:
        os.close(self._descriptor)


def credentials_path(state: Path) -> Path:
    return state / "credentials.yaml"


def create_tokens(tokens_file: Path, state: Path) -> bool:
    """Make one random token for each role, unless `tokens_file` exists.

    The tokens file gets their sha256 only; the plain tokens go to `credentials.yaml` in `state`.

    Returns:
        whether tokens were made.
    """
    if tokens_file.exists():
        return False
    plain = {role: f"expunge-{role}-{secrets.token_urlsafe(24)}" for role in ROLES}
    entries = [
        {"token_sha256": sha256(token.encode()).hexdigest(), "principal": f"local-{role}", "role": role}
        for role, token in plain.items()
    ]
    _write_private(credentials_path(state), yaml.safe_dump(plain, sort_keys=False))
    _write_private(tokens_file, yaml.safe_dump({"tokens": entries}, sort_keys=False))
    return True


def read_credential(state: Path, role: str) -> str:
    """The plain token of `role` that the service on `state` made, or "" when there is none."""
    try:
        return str((yaml.safe_load(credentials_path(state).read_text()) or {}).get(role, ""))
    except FileNotFoundError:
        return ""


def _path(state: Path) -> Path:
    return state / "service.json"


def _write_private(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(path.name + ".new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    fresh.replace(path)
    return path
