"""A real gRPC server whose InferenceService does what a test has written down for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import Any, NoReturn

import grpc
from grpc_status import rpc_status

from expunge.errors import ExpungeError
from expunge.gateway.errors import status_of
from expunge.rpc.inference.v1 import inference_pb2 as pb
from expunge.rpc.inference.v1 import inference_pb2_grpc as pb_grpc

WAIT = object()  # a step that waits until the caller is gone, or the server stops


@dataclass
class Script:
    """What becomes of the calls, one list of steps for each: messages are sent, errors end the call.

    Attributes:
        calls: the steps of the first call, of the second, and so on.
        asked: the requests that came.
        metadata: what came with each.
        time_left: seconds each had left.
        ended: set once a call has ended. One that waits ends only because its caller has gone.
    """

    calls: list[Sequence[object]]
    asked: list[Any] = field(default_factory=list)
    metadata: list[dict[str, str]] = field(default_factory=list)
    time_left: list[float | None] = field(default_factory=list)
    ended: Event = field(default_factory=Event)


class ScriptedService(pb_grpc.InferenceServiceServicer):
    def __init__(self, script: Script) -> None:
        self._script = script

    def Generate(self, request: pb.GenerateRequest, context: grpc.ServicerContext) -> pb.GenerateResponse:
        return next(self._played(request, context))

    def Score(self, request: pb.ScoreRequest, context: grpc.ServicerContext) -> pb.ScoreResponse:
        return next(self._played(request, context))

    def ListModels(self, request: pb.ListModelsRequest, context: grpc.ServicerContext) -> Any:
        return next(self._played(request, context))

    def GenerateStream(self, request: pb.GenerateStreamRequest, context: grpc.ServicerContext) -> Any:
        yield from self._played(request, context)

    def _played(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        # Not only where it waits: gRPC does not come that far for a caller who left after the step before.
        ended = Event()
        context.add_callback(ended.set)
        context.add_callback(self._script.ended.set)
        number = len(self._script.asked)
        self._script.asked.append(request)
        self._script.metadata.append({key: str(value) for key, value in context.invocation_metadata()})
        self._script.time_left.append(context.time_remaining())
        for step in self._script.calls[number]:
            if isinstance(step, ExpungeError):
                _abort(context, step)
            elif step is WAIT:
                ended.wait()
            else:
                yield step


def _abort(context: grpc.ServicerContext, error: ExpungeError) -> NoReturn:
    context.abort_with_status(rpc_status.to_status(status_of(error, "request-1")))
    raise AssertionError("abort_with_status raises")


@contextmanager
def serving(script: Script, credentials: grpc.ServerCredentials | None = None) -> Iterator[str]:
    """Serves the script and gives the address."""
    server = grpc.server(ThreadPoolExecutor(4))
    pb_grpc.add_InferenceServiceServicer_to_server(ScriptedService(script), server)
    if credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def chunk(text: str, finish: pb.FinishReason.ValueType = pb.FINISH_REASON_UNSPECIFIED) -> Any:
    """One token of an answer; the last where `finish` is given."""
    usage = pb.Usage(prompt_tokens=3, completion_tokens=2) if finish else None
    return pb.GenerateStreamResponse(
        text=text,
        version="v1",
        generation=7,
        finish_reason=finish,
        usage=usage,
        request_id="request-1",
        alias="default",
        token_count=1,
    )


def answer(text: str = "Paris") -> pb.GenerateResponse:
    return pb.GenerateResponse(
        text=text,
        version="v1",
        generation=7,
        finish_reason=pb.FINISH_REASON_STOP,
        usage=pb.Usage(prompt_tokens=3, completion_tokens=1),
        request_id="request-1",
        alias="default",
    )
