"""The HTTP port's front door: accepts connections and answers probes in a thread of its own."""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator

from expunge.errors import ConfigError
from expunge.gateway.interruption import NEVER_READ_S

MAX_SILENT = 512  # connections that have sent nothing yet; the oldest gives way to the next
SILENT_S = 10.0
_BACKLOG = 1024
_PEEK_BYTES = 4096
_RETRY_S = 0.05
_TEXT = "text/plain; charset=utf-8"


class FrontDoor:
    """Hands on connections once they ask for something; probes are answered here.

    So probes get their answer while the event loop is busy, and a connection that sends nothing costs the
    loop nothing at all.

    Args:
        is_ready: asked in this thread.
        is_full: whether no more connections can be served; asked in this thread.
        hand_on: takes a connection over; called in this thread, its first bytes still unread.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        is_ready: Callable[[], bool],
        is_full: Callable[[], bool],
        hand_on: Callable[[socket.socket], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Listen and answer at once; port 0 takes any free one.

        Raises:
            ConfigError: the port is taken.
        """
        self._is_ready = is_ready
        self._is_full = is_full
        self._hand_on = hand_on
        self._clock = clock
        self._listener = _listen(host, port)
        self.port = int(self._listener.getsockname()[1])
        self._silent: dict[socket.socket, float] = {}  # until when each may stay so, oldest first
        self._closing, self._close = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._closing, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._work, name="http-front-door", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take no more connections; hand on those that have asked for something. Waits for the thread."""
        with contextlib.suppress(OSError):  # a second call: nothing is left to do
            self._close.send(b"x")
        self._thread.join()
        self._close.close()

    def _work(self) -> None:
        while True:
            ready = {key.fileobj for key, _ in self._selector.select(self._patience_s())}
            if self._listener in ready:
                self._accept()
            for connection in ready & self._silent.keys():
                assert isinstance(connection, socket.socket)
                self._forget(connection)
                self._receive(connection)
            self._drop_overdue()
            if self._closing in ready:
                break
        self._accept()
        ready = {key.fileobj for key, _ in self._selector.select(0)}
        for connection in tuple(self._silent):
            self._forget(connection)
            if connection in ready:
                self._receive(connection)
            else:
                connection.close()
        for one in (self._listener, self._closing, self._selector):
            one.close()

    def _patience_s(self) -> float | None:
        first = next(iter(self._silent.values()), None)
        return None if first is None else max(0.0, first - self._clock())

    def _accept(self) -> None:
        for connection in self._arrivals():
            connection.setblocking(False)
            if user_timeout := getattr(socket, "TCP_USER_TIMEOUT", None):
                connection.setsockopt(socket.IPPROTO_TCP, user_timeout, NEVER_READ_S * 1000)
            if len(self._silent) >= MAX_SILENT:
                self._drop_oldest()
            self._silent[connection] = self._clock() + SILENT_S
            self._selector.register(connection, selectors.EVENT_READ)

    def _arrivals(self) -> Iterator[socket.socket]:
        while True:
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE):
                    raise
                if not self._drop_oldest():  # all descriptors are with others: let some be given back
                    time.sleep(_RETRY_S)
                return
            yield connection

    def _receive(self, connection: socket.socket) -> None:
        """Answer a probe; hand on whatever else has come."""
        try:
            begun = connection.recv(_PEEK_BYTES, socket.MSG_PEEK)
        except OSError:
            begun = b""
        path = begun[4:].partition(b" ")[0] if begun.startswith(b"GET ") else b""
        is_whole = b"\r\n\r\n" in begun
        if not begun:
            connection.close()
        elif path == b"/healthz" and is_whole:
            _answer(connection, "200 OK", b"ok\n")
        elif path == b"/readyz" and is_whole:
            is_ready = self._is_ready()
            status = "200 OK" if is_ready else "503 Service Unavailable"
            _answer(connection, status, b"ready\n" if is_ready else b"not ready\n")
        else:
            self._pass_on(connection)

    def _pass_on(self, connection: socket.socket) -> None:
        if self._is_full():
            _answer(connection, "503 Service Unavailable", b"too many connections; try again\n", "1")
            return
        try:
            self._hand_on(connection)
        except RuntimeError:  # the event loop has ended
            connection.close()

    def _drop_overdue(self) -> None:
        now = self._clock()
        while self._silent and next(iter(self._silent.values())) <= now:
            self._drop_oldest()

    def _drop_oldest(self) -> bool:
        oldest = next(iter(self._silent), None)
        if oldest is None:
            return False
        self._forget(oldest)
        oldest.close()
        return True

    def _forget(self, connection: socket.socket) -> None:
        del self._silent[connection]
        self._selector.unregister(connection)


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # A gateway's successor listens before it has left; see ports.py.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        if error.errno != errno.EADDRINUSE:
            raise
        raise ConfigError(
            f"http_port {port} on {host} is taken; set EXPUNGE_HTTP_PORT to another (0: any free one)",
            reason="PORT_TAKEN",
        ) from error
    return listener


def _answer(connection: socket.socket, status: str, body: bytes, retry_after: str = "") -> None:
    """Answer what has been sent so far, and close: short enough to fit the socket's buffer."""
    headers = [f"HTTP/1.1 {status}", f"Content-Type: {_TEXT}", f"Content-Length: {len(body)}"]
    headers += [f"Retry-After: {retry_after}"] if retry_after else []
    headers += ["Connection: close", "", ""]
    with connection, contextlib.suppress(OSError):  # who asked may be gone
        connection.recv(2**16)  # closing over unread bytes would reset the connection
        connection.send("\r\n".join(headers).encode() + body)
        connection.shutdown(socket.SHUT_WR)
