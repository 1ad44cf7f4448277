"""The client for threads."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar, Unpack

import grpc

from expunge.client.channel import DEFAULT_TIMEOUT_S, Endpoint, Tls
from expunge.client.failures import call_error
from expunge.client.request import Priority, Request, generate_message, priority_value
from expunge.client.results import Answer, Chunk, Model, Score
from expunge.client.retries import DEFAULT_RETRIES, Attempts, RetryPolicy
from expunge.rpc.inference.v1 import inference_pb2 as pb
from expunge.rpc.inference.v1.inference_pb2_grpc import InferenceServiceStub

_Asked = TypeVar("_Asked")
_Said = TypeVar("_Said")


class Client:
    """Asks one service; may be shared by threads. A context manager that closes its connection.

    Every call raises `CallError`, in the subclass that fits. Calls that fail because the service is
    unavailable are tried again, within the timeout; a stream only as long as nothing of it has come.

    Args:
        address: host:port of the inference port.
        token: access token; "" sends none.
        tls: None: unencrypted.
        timeout_s: seconds that one call may take with its retries, where the call does not say.
        retry: how often, and after which pauses.
        clock, sleep, draw: monotonic seconds, the pause, and random numbers in [0, 1) for it.
    """

    def __init__(
        self,
        address: str,
        token: str = "",
        *,
        tls: Tls | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retry: RetryPolicy = DEFAULT_RETRIES,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        endpoint = Endpoint(address, token, tls)
        self._metadata = endpoint.metadata
        self._channel = endpoint.channel()
        self._stub = InferenceServiceStub(self._channel)
        self._timeout_s = timeout_s
        self._retry = retry
        self._clock, self._sleep, self._draw = clock, sleep, draw

    @classmethod
    def local(
        cls,
        state_dir: Path | None = None,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retry: RetryPolicy = DEFAULT_RETRIES,
    ) -> Self:
        """A client of the service on this machine, with the token it keeps for clients.

        Raises:
            ConfigError: no service runs on that state folder.
        """
        found = Endpoint.local(state_dir)
        return cls(found.address, found.token, timeout_s=timeout_s, retry=retry)

    def close(self) -> None:
        """Closes the connection; calls under way are cancelled."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def generate(self, *, timeout_s: float | None = None, **request: Unpack[Request]) -> Answer:
        """Generates a whole answer; `Request` tells the fields.

        Raises:
            CallError: the service refused or failed.
        """
        message = generate_message(pb.GenerateRequest, request)
        return Answer.of(self._call(self._stub.Generate, message, timeout_s))

    def stream(
        self, *, timeout_s: float | None = None, **request: Unpack[Request]
    ) -> Generator[Chunk, None, None]:
        """Generates an answer and yields its text as it grows; `Request` tells the fields.

        The call begins with the first iteration. Closing the generator cancels it.

        Raises:
            CallError: the service refused or failed, at once or part way.
        """
        return self._stream(generate_message(pb.GenerateStreamRequest, request), timeout_s)

    def score(
        self,
        continuation: str,
        *,
        context: str = "",
        alias: str = "",
        priority: Priority | None = None,
        timeout_s: float | None = None,
    ) -> Score:
        """The log-likelihood of `continuation` after `context`; raw text, no chat template.

        Raises:
            CallError: the service refused or failed.
        """
        message = pb.ScoreRequest(
            alias=alias, context=context, continuation=continuation, priority=priority_value(priority)
        )
        return Score.of(self._call(self._stub.Score, message, timeout_s))

    def models(self, *, timeout_s: float | None = None) -> tuple[Model, ...]:
        """The aliases, by name, and what they point at.

        Raises:
            CallError: the service refused or failed.
        """
        listed = self._call(self._stub.ListModels, pb.ListModelsRequest(), timeout_s)
        return tuple(Model.of(model) for model in listed.models)

    def _attempts(self, timeout_s: float | None) -> Attempts:
        seconds = self._timeout_s if timeout_s is None else timeout_s
        return Attempts(self._retry, seconds, self._clock, self._draw)

    def _call(
        self,
        method: grpc.UnaryUnaryMultiCallable[_Asked, _Said],
        message: _Asked,
        timeout_s: float | None,
    ) -> _Said:
        attempts = self._attempts(timeout_s)
        while True:
            try:
                return method(message, metadata=self._metadata, timeout=attempts.remaining_s())
            except grpc.RpcError as error:
                pause = attempts.pause_after(call_error(error))
            self._sleep(pause)

    def _stream(
        self, message: pb.GenerateStreamRequest, timeout_s: float | None
    ) -> Generator[Chunk, None, None]:
        attempts = self._attempts(timeout_s)
        has_begun = False
        while True:
            call = self._stub.GenerateStream(message, metadata=self._metadata, timeout=attempts.remaining_s())
            try:
                for response in call:
                    has_begun = True
                    yield Chunk.of(response)
                return
            except grpc.RpcError as error:
                failure = call_error(error)
                if has_begun:  # another answer must not be joined to this one
                    raise failure from error
                pause = attempts.pause_after(failure)
            finally:
                call.cancel()  # type: ignore[no-untyped-call]
            self._sleep(pause)
