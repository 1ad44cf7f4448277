"""Methods that the contract has and the service does not have yet."""

from __future__ import annotations

from expunge.errors import Unimplemented


def not_built(method: str) -> Unimplemented:
    """The error that such a method raises, after the caller was authenticated and authorised."""
    return Unimplemented(f"{method} is not built yet; the README lists the methods that are still to come")
