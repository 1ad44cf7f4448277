"""The HTTP port: probes and the OpenAI-compatible API, from listening to the last answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException
from uvicorn.config import Config
from uvicorn.server import ServerState

from expunge.gateway.http.api import InferenceApi
from expunge.gateway.http.calls import HttpCalls
from expunge.gateway.http.connection import MAX_HEADER_BYTES, Connection
from expunge.gateway.http.errors import NoSuchPath, http_error
from expunge.gateway.http.front_door import FrontDoor

MAX_CONNECTIONS = 1024  # that have asked for something; more are told to come back
_LAST_CALLS_S = 1.0  # for calls to notice that their connection is gone


class HttpServer:
    """Serves from `listen` to `stop`.

    Connections come in through a thread of their own (`front_door.py`) and are served on the event loop.
    """

    def __init__(self, api: InferenceApi, calls: HttpCalls, is_ready: Callable[[], bool]) -> None:
        self._calls = calls
        self._is_ready = is_ready
        self._config = Config(
            _app(api, is_ready),
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        )
        self._state = ServerState()
        self._front_door: FrontDoor | None = None
        self._open = 0
        self._all_gone = asyncio.Event()
        self._all_gone.set()
        self._arriving: set[asyncio.Task[object]] = set()

    def listen(self, host: str, port: int) -> int:
        """Start to serve; returns the port, which port 0 leaves to the system.

        Raises:
            ConfigError: the port is taken.
        """
        loop = asyncio.get_running_loop()

        def hand_on(connection: socket.socket) -> None:
            loop.call_soon_threadsafe(self._serve, loop, connection)

        self._front_door = FrontDoor(
            host,
            port,
            is_ready=self._is_ready,
            is_full=lambda: self._open >= MAX_CONNECTIONS,
            hand_on=hand_on,
        )
        return self._front_door.port

    def leave(self) -> None:
        """Go on serving, but have clients connect anew for their next call."""
        self._calls.leave()

    async def stop(self, grace_s: float) -> None:
        """Take no new connections; give those that have come `grace_s` to be answered."""
        if self._front_door is not None:
            await asyncio.to_thread(self._front_door.close)
            await asyncio.sleep(0)  # so that what was handed on just now is among those arriving
        if self._arriving:
            await asyncio.wait(self._arriving)
        self._calls.leave()
        for connection in self._connections():
            if connection.cycle is not None:  # others have only just come: they get their answer, too
                connection.shutdown()
        try:
            async with asyncio.timeout(grace_s):
                await self._all_gone.wait()
        except TimeoutError:
            for connection in self._connections():
                connection.transport.abort()
        if self._state.tasks:
            await asyncio.wait(self._state.tasks, timeout=_LAST_CALLS_S)

    def _connections(self) -> list[Connection]:
        found = (one for one in self._state.connections if isinstance(one, Connection))
        return [connection for connection in found if not connection.transport.is_closing()]

    def _serve(self, loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
        self._open += 1
        self._all_gone.clear()
        arriving: asyncio.Task[object] = loop.create_task(
            loop.connect_accepted_socket(
                lambda: Connection(self._config, self._state, loop, self._on_end), connection
            )
        )
        self._arriving.add(arriving)

        def arrived(task: asyncio.Task[object]) -> None:
            self._arriving.discard(task)
            if task.cancelled() or task.exception() is not None:  # it was gone before it could be served
                connection.close()
                self._on_end()

        arriving.add_done_callback(arrived)

    def _on_end(self) -> None:
        self._open -= 1
        if not self._open:
            self._all_gone.set()


def _app(api: InferenceApi, is_ready: Callable[[], bool]) -> FastAPI:
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)

    async def healthz(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(request: Request) -> Response:
        return PlainTextResponse("ready\n") if is_ready() else PlainTextResponse("not ready\n", 503)

    async def no_such_path(request: Request, error: Exception) -> Response:
        found = NoSuchPath(f"{request.method} {request.url.path} is not served here; see the README")
        told = http_error(found, "")
        status = error.status_code if isinstance(error, HTTPException) else told.status
        return JSONResponse(told.body, status)

    # Probes come this way where they share a connection with something else.
    app.add_api_route("/healthz", healthz, methods=["GET"], response_model=None)
    app.add_api_route("/readyz", readyz, methods=["GET"], response_model=None)
    app.add_api_route("/v1/models", api.models, methods=["GET"], response_model=None)
    app.add_api_route("/v1/models/{model}", api.model, methods=["GET"], response_model=None)
    app.add_api_route("/v1/completions", api.completions, methods=["POST"], response_model=None)
    app.add_api_route("/v1/chat/completions", api.chat_completions, methods=["POST"], response_model=None)
    app.add_exception_handler(HTTPException, no_such_path)
    return app
