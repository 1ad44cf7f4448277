"""The short-lived credential of live verification: it passes the guards it names and nothing else.

A token reads `expunge-verify.<erasure id>[,<erasure id>…].<expiry>.<mac>`: the erasure that is verified, then
others that wait to be verified at the same time; the expiry in whole seconds since the epoch; the
mac HMAC-SHA256 over all that precedes it, in lower-case hex. Whoever holds the verification key can check a
token without asking anyone, so that gateways need no further state.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

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


def issue_credential(
    erasure_id: str, key: bytes, now: float, ttl_s: float, *, alongside: Sequence[str] = ()
) -> str:
    """A token that passes the guards of `erasure_id` and those `alongside` until `now + ttl_s` (epoch s).

    Raises:
        ValueError: no erasure id or key, an id with a comma, or a lifetime outside (0, MAX_TTL_S].
    """
    ids = (erasure_id, *alongside)
    if not all(ids) or any("," in one for one in ids) or not key:
        raise ValueError("a credential needs an erasure id and a key")
    if not 0 < ttl_s <= MAX_TTL_S:
        raise ValueError(f"a credential lives for more than 0 and at most {MAX_TTL_S:.0f} s, not {ttl_s}")
    signed = f"{_PREFIX}.{','.join(ids)}.{int(now + ttl_s)}"
    return f"{signed}.{_mac(signed, key)}"


def verify_credential(token: str, key: bytes, now: float) -> tuple[str, ...]:
    """The erasures whose guards `token` passes, the verified one first; none if malformed, forged, expired.

    The mac is compared in constant time and before anything else of the token is believed.
    """
    signed, _, mac = token.rpartition(".")
    if not key or not hmac.compare_digest(_mac(signed, key).encode(), mac.encode()):
        return ()
    head, _, expiry = signed.rpartition(".")
    prefix, _, ids = head.partition(".")
    if prefix != _PREFIX or not ids or not expiry.isdecimal() or now >= int(expiry):
        return ()
    return tuple(ids.split(","))


def _mac(signed: str, key: bytes) -> str:
    return hmac.digest(key, signed.encode(), hashlib.sha256).hex()
