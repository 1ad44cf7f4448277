"""HTTP for probes: /healthz tells that the process lives, /readyz that it takes requests."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from expunge.errors import ConfigError


class ProbeServer(ThreadingHTTPServer):
    """Answers probes from threads of its own, so that a busy event loop does not look dead at once."""

    allow_reuse_port = True  # a gateway's successor listens before it has left; see ports.py
    daemon_threads = True

    def __init__(self, host: str, port: int, is_ready: Callable[[], bool]) -> None:
        """Listen and answer at once; port 0 takes any free one.

        Raises:
            ConfigError: the port is taken.
        """
        self.is_ready = is_ready
        try:
            super().__init__((host, port), _Probe)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise ConfigError(
                f"http_port {port} on {host} is taken; set EXPUNGE_HTTP_PORT to another (0: any free one)",
                reason="PORT_TAKEN",
            ) from error
        self._thread = threading.Thread(target=self.serve_forever, name="probes", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()


class _Probe(BaseHTTPRequestHandler):
    server: ProbeServer

    def do_GET(self) -> None:
        if self.path == "/healthz":
            self._answer(200, b"ok\n")
        elif self.path == "/readyz":
            is_ready = self.server.is_ready()
            self._answer(200 if is_ready else 503, b"ready\n" if is_ready else b"not ready\n")
        else:
            self._answer(404, b"not found; /healthz and /readyz are served here\n")

    def _answer(self, code: int, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Probes come every few seconds and are not worth a line."""
