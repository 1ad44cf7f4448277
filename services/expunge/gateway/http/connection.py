"""One HTTP connection: what uvicorn's does, with bounds on how long and how much a client may take."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

HEADERS_S = 10.0  # for the headers of one request to arrive
MAX_HEADER_BYTES = 2**16
MAX_IGNORED_BYTES = 8 * 2**20  # of a request that was answered before it had all arrived


class Connection(H11Protocol):
    """Closes on a client that takes too long to send its headers, or goes on sending what was refused.

    Args:
        on_end: called once the connection is gone.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        loop: asyncio.AbstractEventLoop,
        on_end: Callable[[], None],
    ) -> None:
        super().__init__(config, server_state, {}, loop)
        self._on_end = on_end
        self._headers_due: asyncio.TimerHandle | None = None
        self._ignored_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_expecting()
        super().connection_lost(exc)
        self._on_end()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._expect_headers()
            self._bound_ignored(len(data))
        else:
            self._stop_expecting()
            self._ignored_bytes = 0

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP is told so in the form that errors have on this port."""
        error = {"message": msg, "type": "invalid_request_error", "param": None, "code": "invalid_http"}
        body = json.dumps({"error": error}).encode()
        headers = [("content-type", "application/json"), ("connection", "close")]
        events: list[Any] = [
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ]
        if self.conn.our_state is h11.IDLE:
            for event in events:
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _expect_headers(self) -> None:
        if self._headers_due is None and not self.transport.is_closing():
            self._headers_due = self.loop.call_later(HEADERS_S, self.transport.close)

    def _stop_expecting(self) -> None:
        if self._headers_due is not None:
            self._headers_due.cancel()
            self._headers_due = None

    def _bound_ignored(self, count: int) -> None:
        self._ignored_bytes += count
        if self._ignored_bytes > MAX_IGNORED_BYTES:
            self.transport.abort()
