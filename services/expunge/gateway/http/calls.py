"""What every HTTP call passes: accounting, authentication, authorisation, errors. As `layers.py` for gRPC."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager

import grpc
from fastapi import Request
from fastapi.responses import JSONResponse, Response

from expunge.errors import ExpungeError
from expunge.gateway.authentication import Authenticator
from expunge.gateway.call import Call, current_call
from expunge.gateway.errors import code_of
from expunge.gateway.http.errors import HttpError, http_error, is_for_caller
from expunge.gateway.http.event_stream import EventStream, event
from expunge.gateway.layers import authentication, authorisation, counted
from expunge.observability.logging import get_logger
from expunge.observability.metrics import GatewayMetrics

_log = get_logger()

Work = Callable[[Call, AsyncExitStack], Awaitable[Response]]


class HttpCalls:
    """The HTTP calls under way.

    A call is held to the roles of the gRPC method that it stands for, and counted with it.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        metrics: GatewayMetrics,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._gates = (authentication(authenticator), authorisation)
        self._metrics = metrics
        self._clock = clock
        self._is_leaving = False

    def leave(self) -> None:
        """From now on, ask clients to connect anew for their next call."""
        self._is_leaving = True

    async def answered(self, request: Request, method: str, work: Work) -> Response:
        """The response to one call: what `work` makes of it, or what its error tells.

        Args:
            method: the gRPC method that this stands for.
            work: gets a stack that is closed at the end of the call, which may be the end of a stream.
        """
        call = Call.begin(method, request.headers.items())
        current_call.set(call)  # each request has a task, and so a context, of its own
        async with AsyncExitStack() as stack:
            stack.enter_context(self._counted(call))
            try:
                for gate in self._gates:
                    gate(call)
                response = await work(call, stack)
            except Exception as error:
                told = self._told(error, call)
                response = JSONResponse(told.body, told.status, dict(told.headers))
            if isinstance(response, EventStream):
                response.until_end(stack.pop_all())
        response.headers["x-request-id"] = call.request_id
        if self._is_leaving:
            response.headers["connection"] = "close"
        return response

    def renamed(self, call: Call, method: str) -> None:
        """The call turned out to stand for another gRPC method.

        Raises:
            PermissionDenied: which its caller may not call.
        """
        call.method = method
        authorisation(call)

    def last_event(self, error: Exception, call: Call) -> bytes:
        """How a stream ends that `error` has broken off."""
        return event(self._told(error, call).body)

    def _told(self, error: Exception, call: Call) -> HttpError:
        call.code = code_of(error) if isinstance(error, ExpungeError) else grpc.StatusCode.INTERNAL
        if not is_for_caller(error):
            _log.error("call_failed", method=call.method, request_id=call.request_id, exc_info=error)
        return http_error(error, call.request_id)

    @contextmanager
    def _counted(self, call: Call) -> Iterator[None]:
        try:
            with counted(call, self._metrics, self._clock):
                yield
        except ExpungeError as error:  # of a stream: nobody else takes notice of it
            call.code = code_of(error)
            raise
