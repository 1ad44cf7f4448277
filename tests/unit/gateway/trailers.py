"""The google.rpc details of an error of grpc.aio."""

from __future__ import annotations

import grpc


class Trailers:
    """What grpc_status reads of an error of grpc.aio."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self._error = error

    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return tuple(self._error.trailing_metadata())

    def code(self) -> grpc.StatusCode:
        return self._error.code()

    def details(self) -> str | None:
        return self._error.details()
