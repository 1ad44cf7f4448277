"""The interceptor chain: layers around every handler, whichever of the four shapes it has."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    aclosing,
    asynccontextmanager,
)
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import grpc
from google.protobuf.message import DecodeError
from grpc.aio import ServerInterceptor, ServicerContext

from expunge.errors import InvalidRequest
from expunge.gateway.call import Call, current_call
from expunge.gateway.interruption import NEVER_READ_S, unless
from expunge.gateway.roles import PUBLIC_METHODS
from expunge.gateway.running import draining
from expunge.gateway.unbuilt import not_built

if TYPE_CHECKING:
    Context: TypeAlias = ServicerContext[Any, Any]
else:  # not generic at run time
    Context = ServicerContext
Layer = Callable[[Call, Context], AbstractAsyncContextManager[None]]
Handler = Callable[[Any, Context], Awaitable[Any]]
Gate = Callable[[Call], None]


def _kept(deserializer: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """A deserializer whose error is told inside the layers; gRPC itself would answer with its class."""

    def decode(data: bytes) -> Any:
        try:
            return deserializer(data)
        except DecodeError as error:
            return error

    return decode


def _require_decoded(request: Any) -> None:
    """Raise InvalidRequest where the bytes that came were no such message."""
    if isinstance(request, DecodeError):
        raise InvalidRequest(f"the request can't be decoded, send what the proto says: {request}")


class CallChain(ServerInterceptor):  # type: ignore[type-arg]
    """Lets calls through its gates, and runs every handler inside its layers; the first one is the outermost.

    Gates see a call's metadata only. One that raises ends the call, inside the layers, before a byte of its
    request was received: whoever is refused costs no memory.
    Streaming handlers run as coroutines that write, not as generators handed to gRPC: so a cancellation
    always arrives inside the handler, and its `finally` blocks run at once.

    Args:
        never_read_s: how long a stream's client may leave a response unread before its call is cancelled.
    """

    def __init__(
        self, layers: Sequence[Layer], gates: Sequence[Gate] = (), *, never_read_s: float = NEVER_READ_S
    ) -> None:
        self._layers = tuple(layers)
        self._gates = tuple(gates)
        self._never_read_s = never_read_s
        self._leaving = asyncio.Event()

    def leave(self) -> None:
        """End streams of public methods: a health watch never ends by itself, and would use up any grace."""
        self._leaving.set()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any]]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any]:
        handler: Any = await continuation(handler_call_details)
        if handler is None:  # no such method: gRPC itself answers UNIMPLEMENTED
            return cast("grpc.RpcMethodHandler[Any, Any]", handler)
        call = Call.begin(handler_call_details.method, handler_call_details.invocation_metadata or ())
        try:
            for gate in self._gates:
                gate(call)
        except Exception as error:  # the layers tell what it means to the caller
            return grpc.stream_stream_rpc_method_handler(self._refuser(call, error))
        serializers = {
            "request_deserializer": handler.request_deserializer
            if handler.request_streaming
            else _kept(handler.request_deserializer),
            "response_serializer": handler.response_serializer,
        }
        if handler.request_streaming and handler.response_streaming:
            writer = self._writer(call, handler.stream_stream)
            return grpc.stream_stream_rpc_method_handler(writer, **serializers)
        if handler.request_streaming:
            answerer = self._answerer(call, handler.stream_unary)
            return grpc.stream_unary_rpc_method_handler(answerer, **serializers)
        if handler.response_streaming:
            writer = self._writer(call, handler.unary_stream)
            return grpc.unary_stream_rpc_method_handler(writer, **serializers)
        answerer = self._answerer(call, handler.unary_unary)
        return grpc.unary_unary_rpc_method_handler(answerer, **serializers)

    def _refuser(self, call: Call, error: Exception) -> Any:
        """Fits calls of every shape: only for handlers that take a stream gRPC receives nothing unasked."""

        async def refuse(requests: Any, context: Context) -> None:
            async with self._entered(call, context):
                raise error

        return refuse

    def _answerer(self, call: Call, behaviour: Any) -> Any:
        async def answer(request: Any, context: Context) -> Any:
            async with self._entered(call, context):
                if not inspect.iscoroutinefunction(behaviour):
                    raise not_built(call.method)  # the generated servicer's own plain function
                _require_decoded(request)
                return await behaviour(request, context)

        return answer

    def _writer(self, call: Call, behaviour: Any) -> Any:
        async def write(request: Any, context: Context) -> None:
            async with self._entered(call, context):
                _require_decoded(request)
                work = self._written(call, behaviour, request, context)
                if call.method in PUBLIC_METHODS:
                    work = unless(self._leaving.wait(), work, draining)
                await work

        return write

    @asynccontextmanager
    async def _entered(self, call: Call, context: Context) -> AsyncIterator[None]:
        current_call.set(call)  # each call has a task, and so a context, of its own
        async with AsyncExitStack() as stack:
            for layer in self._layers:
                await stack.enter_async_context(layer(call, context))
            yield

    async def _written(self, call: Call, behaviour: Any, request: Any, context: Context) -> None:
        """Run a handler that streams its responses, and write them."""
        if inspect.iscoroutinefunction(behaviour):  # writes by itself
            await behaviour(request, context)
        elif inspect.isasyncgenfunction(behaviour):
            async with aclosing(behaviour(request, context)) as responses:
                async for response in responses:
                    await self._taken(context.write(response))
        else:
            raise not_built(call.method)  # the generated servicer's own plain function

    async def _taken(self, writing: Awaitable[None]) -> None:
        """Wait until the connection takes a response, but not for ever: HTTP/2 lets a client take nothing.

        Raises:
            CancelledError: it was not taken. A status would not be either, and telling it would wait as long.
        """
        try:
            async with asyncio.timeout(self._never_read_s):
                await writing
        except TimeoutError as error:
            raise asyncio.CancelledError from error
