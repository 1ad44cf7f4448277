"""Where one gateway listens, as it tells the registry."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Addresses:
    """host:port of each of a gateway's servers."""

    inference: str
    operator: str
    http: str
    metrics: str

    @classmethod
    def of(cls, host: str, inference: int, operator: int, http: int, metrics: int) -> Addresses:
        """The addresses of these ports on one host."""
        shown = f"[{host}]" if ":" in host else host
        return cls(*(f"{shown}:{port}" for port in (inference, operator, http, metrics)))

    def to_json(self) -> str:
        """The form in `MemberReport.address`."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Addresses:
        """Read what `to_json` wrote.

        Raises:
            ValueError: it is something else.
        """
        try:
            return cls(**json.loads(text))
        except TypeError as error:
            raise ValueError(f"not a gateway's addresses: {text!r}") from error
