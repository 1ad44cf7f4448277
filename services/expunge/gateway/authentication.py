"""From a call's metadata to its caller."""

from __future__ import annotations

from collections.abc import Callable

from expunge.erasures.credential import verify_credential
from expunge.errors import Unauthenticated
from expunge.gateway.roles import Role
from expunge.gateway.tokens import Caller, TokenTable

_SCHEME = "bearer "


class Authenticator:
    """Knows static tokens and the short-lived credential of live verification."""

    def __init__(self, tokens: TokenTable, verification_key: bytes, clock: Callable[[], float]) -> None:
        self._tokens = tokens
        self._verification_key = verification_key
        self._clock = clock

    def authenticate(self, authorization: str) -> Caller:
        """The caller that the value of the `authorization` entry stands for.

        Raises:
            Unauthenticated: there is none, or it is not known or no longer valid.
        """
        if not authorization:
            raise Unauthenticated("no token: send the metadata entry 'authorization: Bearer <token>'")
        if not authorization.lower().startswith(_SCHEME):
            raise Unauthenticated("the authorization entry must read 'Bearer <token>'")
        token = authorization[len(_SCHEME) :].strip()
        if caller := self._tokens.find(token):
            return caller
        if erasures := verify_credential(token, self._verification_key, self._clock()):
            return Caller(f"verification:{erasures[0]}", Role.VERIFIER, frozenset(erasures))
        raise Unauthenticated("the token is not known or has expired: ask the operator for a valid one")
