"""The short-lived credential of live verification: it passes one erasure's guard and nothing else.

A token reads `expunge-verify.<erasure id>.<expiry>.<mac>`: the expiry in whole seconds since the epoch, the
mac HMAC-SHA256 over all that precedes it, in lower-case hex. Whoever holds the verification key can check a
token without asking anyone, so that gateways need no further state.
"""

from __future__ import annotations

import hashlib
import hmac

from expunge.config import Settings
from expunge.registry.vault import Vault

_PREFIX = "expunge-verify"
_KEY_PURPOSE = b"expunge live verification v1"
MAX_TTL_S = 3600.0


def verification_key(settings: Settings) -> bytes:
    """The 32-byte key that signs credentials, derived from the service's master key.

    Raises:
        ConfigError: the master key is missing (the registry makes it at its first start) or malformed.
    """
    vault = Vault.load(settings.resolved_master_key_file, create=False)
    return bytes.fromhex(vault.mac(_KEY_PURPOSE))


def issue_credential(erasure_id: str, key: bytes, now: float, ttl_s: float) -> str:
    """A token that passes the guard of `erasure_id` until `now + ttl_s` (seconds since the epoch).

    Raises:
        ValueError: no erasure id or key, or a lifetime outside (0, MAX_TTL_S].
    """
    if not erasure_id or not key:
        raise ValueError("a credential needs an erasure id and a key")
    if not 0 < ttl_s <= MAX_TTL_S:
        raise ValueError(f"a credential lives for more than 0 and at most {MAX_TTL_S:.0f} s, not {ttl_s}")
    signed = f"{_PREFIX}.{erasure_id}.{int(now + ttl_s)}"
    return f"{signed}.{_mac(signed, key)}"


def verify_credential(token: str, key: bytes, now: float) -> str | None:
    """The erasure id whose guard `token` passes; None when it is malformed, forged or has expired.

    The mac is compared in constant time and before anything else of the token is believed.
    """
    signed, _, mac = token.rpartition(".")
    if not key or not hmac.compare_digest(_mac(signed, key).encode(), mac.encode()):
        return None
    head, _, expiry = signed.rpartition(".")
    prefix, _, erasure_id = head.partition(".")
    if prefix != _PREFIX or not erasure_id or not expiry.isdecimal() or now >= int(expiry):
        return None
    return erasure_id


def _mac(signed: str, key: bytes) -> str:
    return hmac.digest(key, signed.encode(), hashlib.sha256).hex()
