"""Connections to the HTTP port that ask for probes, for nothing, too slowly, or without end."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections.abc import Iterator

import pytest

from expunge.errors import ConfigError
from expunge.gateway.http import connection, front_door
from expunge.gateway.http.front_door import FrontDoor
from gateway.conftest import LiveGateway


class Hall:
    """Where connections arrive that a front door hands on."""

    def __init__(self) -> None:
        self.arrived: list[socket.socket] = []
        self.news = threading.Event()
        self.is_ready = True
        self.is_full = False

    def take(self, arrival: socket.socket) -> None:
        self.arrived.append(arrival)
        self.news.set()


@pytest.fixture
def hall() -> Iterator[Hall]:
    hall = Hall()
    yield hall
    for arrival in hall.arrived:
        arrival.close()


@pytest.fixture
def door(hall: Hall) -> Iterator[FrontDoor]:
    door = FrontDoor(
        "127.0.0.1",
        0,
        is_ready=lambda: hall.is_ready,
        is_full=lambda: hall.is_full,
        hand_on=hall.take,
    )
    yield door
    door.close()


def connect(port: int, sent: bytes = b"") -> socket.socket:
    found = socket.create_connection(("127.0.0.1", port), timeout=10)
    found.sendall(sent)
    return found


def send_without_end(connection: socket.socket) -> None:
    while True:
        connection.send(b"a" * 2**20)


def answer(asking: socket.socket) -> str:
    """All that comes until the other side closes."""
    with asking, asking.makefile("rb") as stream:
        return stream.read().decode()


def probe(port: int, path: str) -> str:
    return answer(connect(port, f"GET {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode()))


def test_probes_are_answered_at_the_door(door: FrontDoor, hall: Hall) -> None:
    assert probe(door.port, "/healthz").startswith("HTTP/1.1 200")
    assert probe(door.port, "/readyz").startswith("HTTP/1.1 200")
    hall.is_ready = False
    assert probe(door.port, "/readyz").startswith("HTTP/1.1 503")
    assert hall.arrived == []


def test_whatever_else_is_asked_is_handed_on_unread(door: FrontDoor, hall: Hall) -> None:
    with connect(door.port, b"GET /v1/models HTTP/1.1\r\n"):
        assert hall.news.wait(10)
        assert hall.arrived[0].recv(100) == b"GET /v1/models HTTP/1.1\r\n"


def test_those_that_are_too_many_are_told_to_come_back(door: FrontDoor, hall: Hall) -> None:
    hall.is_full = True
    told = answer(connect(door.port, b"GET /v1/models HTTP/1.1\r\n\r\n"))
    assert told.startswith("HTTP/1.1 503")
    assert "Retry-After: 1\r\n" in told
    assert probe(door.port, "/healthz").startswith("HTTP/1.1 200")


def test_of_too_many_silent_connections_the_oldest_goes(
    door: FrontDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front_door, "MAX_SILENT", 2)
    silent = [connect(door.port) for _ in range(4)]
    assert [answer(one) for one in silent[:2]] == ["", ""]
    assert probe(door.port, "/healthz").startswith("HTTP/1.1 200")
    for one in silent[2:]:
        one.close()


def test_who_says_nothing_is_let_go(door: FrontDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_door, "SILENT_S", 0.05)
    assert answer(connect(door.port)) == ""


def test_a_client_that_never_reads_is_cut_off(
    door: FrontDoor, hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front_door, "NEVER_READ_S", 1)
    with connect(door.port, b"GET /v1/models HTTP/1.1\r\n"):
        assert hall.news.wait(10)
        hall.arrived[0].settimeout(60)
        with pytest.raises(OSError) as caught:
            send_without_end(hall.arrived[0])
        assert caught.value.errno == errno.ETIMEDOUT


def test_a_port_that_is_taken_is_a_clear_error(hall: Hall) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"http_port {port}"):
            FrontDoor(
                "127.0.0.1", port, is_ready=lambda: True, is_full=lambda: False, hand_on=hall.take
            ).close()


def test_closing_hands_on_what_was_asked_and_lets_go_of_the_rest(door: FrontDoor, hall: Hall) -> None:
    with connect(door.port) as silent, connect(door.port, b"POST /v1/completions HTTP/1.1\r\n"):
        door.close()
        assert len(hall.arrived) == 1
        assert silent.recv(1) == b""


@pytest.mark.asyncio(loop_scope="module")
async def test_probes_are_answered_while_the_event_loop_is_busy(live: LiveGateway) -> None:
    port = int(live.gateway.addresses.http.rpartition(":")[2])
    answered = threading.Event()
    answers: list[str] = []

    def ask() -> None:
        answers.extend([probe(port, "/healthz"), probe(port, "/readyz")])
        answered.set()

    threading.Thread(target=ask).start()
    assert answered.wait(10)  # on the event loop, which does nothing else meanwhile
    assert all("HTTP/1.1 200" in one for one in answers)


@pytest.mark.asyncio(loop_scope="module")
async def test_probes_on_a_connection_that_is_in_use_are_answered(live: LiveGateway) -> None:
    port = int(live.gateway.addresses.http.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for path, status in (("/v1/models", b"401"), ("/healthz", b"200"), ("/readyz", b"200")):
        writer.write(f"GET {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert status in head.split(b"\r\n")[0]
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
        await reader.readexactly(int(length.split(b":")[1]))
    writer.close()


@pytest.mark.asyncio(loop_scope="module")
async def test_headers_that_never_end_are_cut_off(live: LiveGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEADERS_S", 0.05)
    port = int(live.gateway.addresses.http.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /v1/completions HTTP/1.1\r\n")
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    writer.close()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    "sent", [b"hello\r\n\r\n", b"GET / HTTP/1.1\r\nX: ".ljust(connection.MAX_HEADER_BYTES + 1, b"a")]
)
async def test_what_is_no_http_is_told_so(live: LiveGateway, sent: bytes) -> None:
    port = int(live.gateway.addresses.http.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    async with asyncio.timeout(10):
        told = await reader.read()
    assert told.startswith(b"HTTP/1.1 400")
    assert b'"code": "invalid_http"' in told
    writer.close()
