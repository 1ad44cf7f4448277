"""Server-sent events, until the last one or until the client leaves."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable
from contextlib import AsyncExitStack, aclosing, suppress
from typing import TypeVar

from fastapi import Response
from starlette.types import Receive, Scope, Send

from expunge.errors import Cancelled
from expunge.gateway.interruption import unless

T = TypeVar("T")

DONE = b"data: [DONE]\n\n"


def event(data: object) -> bytes:
    """One event that carries `data` as JSON."""
    return b"data: " + json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


class EventStream(Response):
    """Sends events as they come.

    Args:
        events: encoded; closed at the end, also where the client leaves early.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None], headers: dict[str, str]) -> None:
        super().__init__(headers={**headers, "cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._events = events
        self._stack = AsyncExitStack()

    def until_end(self, stack: AsyncExitStack) -> None:
        """Have `stack` closed once the stream has ended, however it does."""
        self._stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(Cancelled):  # counted by whoever is on the stack, and told to nobody
            async with self._stack:
                await unless_gone(receive, self._send_all(send))

    async def _send_all(self, send: Send) -> None:
        async with aclosing(self._events) as events:
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            async for one in events:
                await send({"type": "http.response.body", "body": one, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def unless_gone(receive: Receive, work: Awaitable[T]) -> T:
    """What `work` returns; it is cancelled once the client has left.

    Args:
        receive: of a request whose body has been read.

    Raises:
        Cancelled: the client left first.
    """
    return await unless(_disconnect(receive), work, lambda: Cancelled("the client went away"))


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
