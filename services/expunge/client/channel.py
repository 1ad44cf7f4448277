"""Where the service is, and how a client gets there: address, token, TLS."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import grpc

from expunge.errors import ConfigError

DEFAULT_TIMEOUT_S = 60.0  # of one call, with its retries
STATE_VARIABLE, DEFAULT_STATE = "EXPUNGE_STATE_DIR", Path("~/.local/share/expunge")
CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", 16 * 2**20),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
)

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Tls:
    """Encrypts the channel and checks whom it talks to.

    Attributes:
        ca_file: PEM file of the authorities to trust; None: those that gRPC comes with.
        server_name: name in the server's certificate, where it is not that of the address.
        certificate_file, key_file: PEM files by which the client shows who it is; both or none.
    """

    ca_file: Path | None = None
    server_name: str = ""
    certificate_file: Path | None = None
    key_file: Path | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Reads the files."""
        return grpc.ssl_channel_credentials(
            root_certificates=_read(self.ca_file),
            private_key=_read(self.key_file),
            certificate_chain=_read(self.certificate_file),
        )

    def options(self) -> tuple[tuple[str, str], ...]:
        return (("grpc.ssl_target_name_override", self.server_name),) if self.server_name else ()


@dataclass(frozen=True)
class Endpoint:
    """One service: where it listens, and the token to show there."""

    address: str
    token: str = ""
    tls: Tls | None = None

    @property
    def metadata(self) -> Metadata:
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    def channel(self) -> grpc.Channel:
        """A channel for threads; it connects at the first call."""
        if self.tls is None:
            return grpc.insecure_channel(self.address, options=CHANNEL_OPTIONS)
        options = (*CHANNEL_OPTIONS, *self.tls.options())
        return grpc.secure_channel(self.address, self.tls.credentials(), options=options)

    def async_channel(self) -> grpc.aio.Channel:
        """A channel for the coroutines of one event loop."""
        if self.tls is None:
            return grpc.aio.insecure_channel(self.address, options=CHANNEL_OPTIONS)
        options = (*CHANNEL_OPTIONS, *self.tls.options())
        return grpc.aio.secure_channel(self.address, self.tls.credentials(), options=options)

    @classmethod
    def local(cls, state_dir: Path | None = None) -> Endpoint:
        """The service that runs on this machine, as it left word in its state folder.

        Args:
            state_dir: None: EXPUNGE_STATE_DIR, or the folder that services use by default.

        Raises:
            ConfigError: no service runs on it.
        """
        import yaml

        state = (state_dir or Path(os.environ.get(STATE_VARIABLE) or DEFAULT_STATE)).expanduser()
        try:
            address = json.loads((state / "service.json").read_text())["inference"]
        except FileNotFoundError:
            raise ConfigError(
                f"no service runs on the state folder {state}; start one with `expunge serve`, "
                f"set {STATE_VARIABLE}, or give an address and a token"
            ) from None
        credentials = state / "credentials.yaml"
        tokens = yaml.safe_load(credentials.read_text()) if credentials.exists() else None
        return cls(address, str((tokens or {}).get("client", "")))


def _read(file: Path | None) -> bytes | None:
    return None if file is None else file.read_bytes()
