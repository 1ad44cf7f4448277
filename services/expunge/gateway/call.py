"""One call under way: what the interceptor chain knows of it, and what handlers read from it."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field

import grpc

from expunge.gateway.tokens import Caller

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass
class Call:
    """One call. `caller` is set once it is authenticated; `code` once it has ended in an error."""

    method: str  # "/package.Service/Method"
    metadata: dict[str, str]
    request_id: str
    caller: Caller | None = None
    code: grpc.StatusCode = field(default=grpc.StatusCode.OK)

    @classmethod
    def begin(cls, method: str, metadata: Iterable[tuple[str, str | bytes]]) -> Call:
        """A call with its text metadata; it keeps the caller's `x-request-id` when that is well-formed."""
        entries = {key: value for key, value in metadata if isinstance(value, str)}
        request_id = entries.get("x-request-id", "")
        if not _REQUEST_ID.fullmatch(request_id):
            request_id = uuid.uuid4().hex
        return cls(method, entries, request_id)

    @property
    def principal(self) -> str:
        """Who calls; "" where nobody has to say."""
        return self.caller.principal if self.caller else ""


current_call: ContextVar[Call] = ContextVar("current_call")


def current_caller() -> Caller:
    """The caller of the current call, which must have passed authentication.

    Raises:
        LookupError: outside a call, or in a public method.
    """
    caller = current_call.get().caller
    if caller is None:
        raise LookupError(f"{current_call.get().method} was not authenticated")
    return caller
