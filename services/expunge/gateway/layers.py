"""What every call passes: the layers accounting and errors, the gates authentication and authorisation."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import grpc
from grpc_status import rpc_status

from expunge.errors import ExpungeError, PermissionDenied
from expunge.gateway.authentication import Authenticator
from expunge.gateway.call import Call
from expunge.gateway.chain import CallChain, Context, Gate, Layer
from expunge.gateway.errors import code_of, internal_status, status_of
from expunge.gateway.roles import PUBLIC_METHODS, is_allowed
from expunge.observability.logging import get_logger
from expunge.observability.metrics import GatewayMetrics

_log = get_logger()


def standard_chain(
    authenticator: Authenticator, metrics: GatewayMetrics, clock: Callable[[], float] = time.perf_counter
) -> CallChain:
    """The layers and the gates in their order, for one server."""
    layers = (accounting(metrics, clock), translated_errors)
    return CallChain(layers, gates=(authentication(authenticator), authorisation))


def accounting(metrics: GatewayMetrics, clock: Callable[[], float]) -> Layer:
    """Counts calls, their errors and their time."""

    @asynccontextmanager
    async def layer(call: Call, context: Context) -> AsyncIterator[None]:
        context.set_trailing_metadata((("x-request-id", call.request_id),))
        with counted(call, metrics, clock):
            yield

    return layer


@contextmanager
def counted(call: Call, metrics: GatewayMetrics, clock: Callable[[], float]) -> Iterator[None]:
    """Counts one call, by the code it has at its end, and its time."""
    began = clock()
    try:
        yield
    except asyncio.CancelledError:
        call.code = grpc.StatusCode.CANCELLED
        raise
    finally:
        code = call.code.name
        metrics.requests.labels(call.method, code).inc()
        if call.code is not grpc.StatusCode.OK:
            metrics.failures.labels(call.method, code).inc()
        metrics.request_seconds.labels(call.method).observe(clock() - began)


@asynccontextmanager
async def translated_errors(call: Call, context: Context) -> AsyncIterator[None]:
    """Ends the call with the status of the domain error that reached it; other errors stay in the log."""
    try:
        yield
    except grpc.aio.AbortError:
        call.code = context.code()
        raise
    except ExpungeError as error:
        call.code = code_of(error)
        if call.code is grpc.StatusCode.INTERNAL:
            _log.exception("call_failed", method=call.method, request_id=call.request_id)
        status = status_of(error, call.request_id)
    except Exception:
        call.code = grpc.StatusCode.INTERNAL
        _log.exception("call_failed", method=call.method, request_id=call.request_id)
        status = internal_status(call.request_id)
    else:
        return
    wire = rpc_status.to_status(status)
    trailers = (*wire.trailing_metadata, ("x-request-id", call.request_id))
    await context.abort(wire.code, wire.details, trailers)


def authentication(authenticator: Authenticator) -> Gate:
    """Finds out who calls, except for public methods."""

    def gate(call: Call) -> None:
        if call.method not in PUBLIC_METHODS:
            call.caller = authenticator.authenticate(call.metadata.get("authorization", ""))

    return gate


def authorisation(call: Call) -> None:
    """Deny by default: only what the table of roles names goes through."""
    if call.method in PUBLIC_METHODS or (call.caller and is_allowed(call.method, call.caller.role)):
        return
    role = call.caller.role if call.caller else "nobody"
    raise PermissionDenied(
        f"{call.method} is not allowed for role {role}; use a token of another role",
        metadata={"method": call.method, "role": str(role)},
    )
