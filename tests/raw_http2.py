"""A gRPC client whose flow-control window stays closed: frames by hand (RFC 9113)."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from types import TracebackType
from typing import Self

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING = 0, 1, 3, 4, 6
END_STREAM = 1  # a flag, of DATA and HEADERS
_ACK, _END_HEADERS = 1, 4
_INITIAL_WINDOW_SIZE = 4


class ClosedWindow:
    """One connection that asks, and allows no byte of an answer; headers and trailers need no window.

    Args:
        address: host:port.
    """

    def __init__(self, address: str) -> None:
        host, port = address.rsplit(":", 1)
        self._authority = address
        self._socket = socket.create_connection((host, int(port)), timeout=60)
        self._next_stream = 1
        self._socket.sendall(_PREFACE + _frame(SETTINGS, 0, 0, struct.pack(">HI", _INITIAL_WINDOW_SIZE, 0)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def ask(self, path: str, message: bytes, headers: dict[str, str]) -> int:
        """Sends one call; returns its stream's number."""
        fields = {
            ":method": "POST",
            ":scheme": "http",
            ":path": path,
            ":authority": self._authority,
            "content-type": "application/grpc",
            "te": "trailers",
        } | headers
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        block = b"".join(b"\0" + _text(name) + _text(value) for name, value in fields.items())
        body = b"\0" + struct.pack(">I", len(message)) + message
        self._socket.sendall(
            _frame(HEADERS, _END_HEADERS, stream, block) + _frame(DATA, END_STREAM, stream, body)
        )
        return stream

    def frames(self) -> Iterator[tuple[int, int, int]]:
        """What comes: kind, flags and stream of each frame; settings and pings are acknowledged."""
        while header := self._read(9):
            length, kind, flags = int.from_bytes(header[:3]), header[3], header[4]
            stream, payload = int.from_bytes(header[5:]) & 0x7FFFFFFF, self._read(length)
            if kind in (SETTINGS, PING) and not flags & _ACK:
                self._socket.sendall(_frame(kind, _ACK, 0, payload if kind == PING else b""))
            yield kind, flags, stream

    def _read(self, count: int) -> bytes:
        found = b""
        while len(found) < count and (more := self._socket.recv(count - len(found))):
            found += more
        return found


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload


def _text(text: str) -> bytes:
    """A string literal of HPACK (RFC 7541, 5.2), uncompressed."""
    encoded = text.encode()
    if len(encoded) < 127:
        return bytes((len(encoded),)) + encoded
    rest, more = len(encoded) - 127, b""
    while rest >= 128:
        more += bytes((rest % 128 + 128,))
        rest //= 128
    return b"\x7f" + more + bytes((rest,)) + encoded
