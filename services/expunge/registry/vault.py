"""Encryption at rest: AES-256-GCM with a key per erasure, each wrapped by the master key.

Whoever deletes a wrapped key has shredded everything that was sealed with it. The master key itself is
never used on data: HKDF-SHA256 derives one key for wrapping, one for records without an erasure, one for
keyed hashes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from expunge.errors import ConfigError, DataLoss
from expunge.registry.upload import sync_folder

MASTER_KEY_VARIABLE = "EXPUNGE_MASTER_KEY"
KEY_BYTES = 32
_NONCE_BYTES = 12


class DataKey:
    """Seals and opens bytes. `context` says what they are; it is authenticated, so blobs can't be swapped."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, plain: bytes, context: str) -> bytes:
        """Encrypt: a fresh nonce (12 bytes), then ciphertext and tag."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, context.encode())

    def open(self, sealed: bytes, context: str) -> bytes:
        """Decrypt what `seal` made under the same context. Raises DataLoss when it was altered or swapped."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], context.encode())
        except (InvalidTag, ValueError):
            raise DataLoss(
                f"the encrypted record '{context}' can't be opened: it was altered, or made with another "
                "master key; restore the database together with its key"
            ) from None


class Vault:
    """The master key and what derives from it.

    Args:
        master_key: 32 random bytes.
    """

    def __init__(self, master_key: bytes) -> None:
        if len(master_key) != KEY_BYTES:
            raise ConfigError(f"the master key has {len(master_key)} bytes; it must have {KEY_BYTES}")
        self._wrapping = DataKey(_derive(master_key, "wrap data keys"))
        self.own_key = DataKey(_derive(master_key, "records without an erasure"))
        self._mac_key = _derive(master_key, "keyed hashes")

    @classmethod
    def load(cls, file: Path, *, create: bool, environment: Mapping[str, str] = os.environ) -> Vault:
        """The vault of a service.

        The key comes from the environment variable EXPUNGE_MASTER_KEY, else from `file` (both: 32 bytes in
        base64).

        Args:
            create: make the file (mode 0600) when there is none. Only right for a fresh database: with an
                existing one a new key could open nothing.

        Raises:
            ConfigError: no key, or not one of 32 bytes.
        """
        text = environment.get(MASTER_KEY_VARIABLE, "")
        source = f"environment variable {MASTER_KEY_VARIABLE}"
        if not text:
            source = str(file)
            if not file.exists():
                if not create:
                    raise ConfigError(
                        f"the database is encrypted, but its master key {file} is missing; restore the file "
                        f"or set {MASTER_KEY_VARIABLE}"
                    )
                _make_key_file(file)
            text = file.read_text()
        try:
            return cls(base64.b64decode(text.strip(), validate=True))
        except binascii.Error:
            raise ConfigError(f"the master key in {source} is not base64") from None

    def new_key(self, owner: str) -> tuple[DataKey, bytes]:
        """A fresh data key, and its wrapped form to store beside the data of `owner`."""
        key = os.urandom(KEY_BYTES)
        return DataKey(key), self._wrapping.seal(key, f"key of {owner}")

    def unwrap(self, wrapped: bytes, owner: str) -> DataKey:
        """The data key of `owner`. Raises DataLoss when it is not theirs or the master key differs."""
        return DataKey(self._wrapping.open(wrapped, f"key of {owner}"))

    def mac(self, content: bytes) -> str:
        """Keyed hash (HMAC-SHA256, hex) of `content`: it shows equality and nothing else."""
        return hmac.new(self._mac_key, content, hashlib.sha256).hexdigest()


def _derive(master_key: bytes, purpose: str) -> bytes:
    kdf = HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=f"expunge: {purpose}".encode())
    return kdf.derive(master_key)


def _make_key_file(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f"{file.name}.{os.getpid()}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(base64.b64encode(os.urandom(KEY_BYTES)) + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(file.parent)  # the key must not be lost to a power cut after data was sealed with it
