"""Bad input over gRPC: each gets a clear error or has a bounded cost, and other calls go on."""

from __future__ import annotations

import json
import os
import resource
import socket
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from itertools import islice

import grpc
import psutil
import pytest

from deployed import Deployed, failure_of, processes
from expunge.rpc.inference.v1 import inference_pb2 as pb
from expunge.rpc.inference.v1.inference_pb2_grpc import InferenceServiceStub
from raw_http2 import DATA, END_STREAM, HEADERS, RST_STREAM, ClosedWindow

IDLE = 1000
SPARE_FILES = 300  # of this process, for everything else
LEVEL_BYTES = 64 * 2**20  # what the gateway's memory may differ by afterwards
GENERATE = "/expunge.inference.v1.InferenceService/Generate"
STREAM = "/expunge.inference.v1.InferenceService/GenerateStream"
UNREAD, UNREAD_TOKENS = 8, 600
UNREAD_BYTES = 4 * 2**20  # of one answer that nobody reads: its tokens, as records and as messages
DEADLINE_S = 10  # above what these answers take to be generated
BIAS = {"0": -100.0, "2": -100.0}  # no token ends an answer
LONG = pb.GenerateStreamRequest(
    prompt="The quick",
    max_tokens=UNREAD_TOKENS,
    sampling=pb.Sampling(logit_bias={int(token): bias for token, bias in BIAS.items()}),
)
USER = [pb.Message(role="user", content="Who?")]

INVALID = grpc.StatusCode.INVALID_ARGUMENT
REFUSED = {
    "unknown alias": (pb.GenerateRequest(alias="nobody", prompt="a"), grpc.StatusCode.NOT_FOUND, "nobody"),
    "nothing asked": (pb.GenerateRequest(), INVALID, "prompt"),
    "empty prompt": (pb.GenerateRequest(prompt=""), INVALID, "prompt"),
    "prompt and messages": (pb.GenerateRequest(prompt="a", messages=USER), INVALID, "prompt"),
    "unknown role": (
        pb.GenerateRequest(messages=[pb.Message(role="root", content="a")]),
        INVALID,
        "messages[0].role",
    ),
    "huge limit": (pb.GenerateRequest(prompt="a", max_tokens=2**32 - 1), INVALID, "max_tokens"),
    "longer than the context": (pb.GenerateRequest(prompt="word " * 4000), INVALID, "tokens; allowed"),
    "far longer than the context": (pb.GenerateRequest(prompt="word " * 100_000), INVALID, "prompt"),
    "100 stop strings": (
        pb.GenerateRequest(prompt="a", stop=[str(number) for number in range(100)]),
        INVALID,
        "stop",
    ),
    "negative temperature": (
        pb.GenerateRequest(prompt="a", sampling=pb.Sampling(temperature=-1)),
        INVALID,
        "temperature",
    ),
    "no number": (
        pb.GenerateRequest(prompt="a", sampling=pb.Sampling(temperature=float("nan"))),
        INVALID,
        "temperature",
    ),
}

# Field 2 (prompt) with bytes that are no UTF-8; field 4 (max_tokens) as the varint of -1; no protobuf at all.
RAW = {
    "invalid UTF-8": b"\x12\x04\xff\xfe\x80\x80",
    "negative limit": b"\x12\x01a\x20" + b"\xff" * 9 + b"\x01",
    "truncated": b"\x12\x7f",
}


@pytest.fixture(scope="module")
def gateway(service: Deployed) -> psutil.Process:
    [process] = processes("ServeReplica:expunge:Gateway")
    return process


def await_true(condition: Callable[[], bool], what: str, timeout_s: float = 90.0) -> None:
    """Looks until `condition` holds."""
    give_up_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up_at, f"still not so after {timeout_s:.0f} s: {what}"
        time.sleep(0.05)


def running(service: Deployed) -> float:
    """Answers under way, as the gateway's metrics tell."""
    return gateway_metric(service, "expunge_admitted_answers ")


def gateway_metric(service: Deployed, start: str) -> float:
    """Sum of the samples on the gateway's page that start so."""
    with urllib.request.urlopen(f"http://{service.service.addresses.metrics}/metrics", timeout=30) as page:
        lines = page.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(start))


def engine_answers(service: Deployed) -> float:
    """Answers that engines have ended, and freed the rows of, whether or not their clients have read them."""
    return gateway_metric(service, "expunge_version_requests_total{")


def until_all_ended(connection: ClosedWindow, count: int) -> set[int]:
    """Kinds of all frames until `count` streams have ended."""
    kinds, ended = set(), set()
    for kind, flags, stream in connection.frames():
        kinds.add(kind)
        if kind == RST_STREAM or (kind == HEADERS and flags & END_STREAM):
            ended.add(stream)
            if len(ended) == count:
                return kinds
    raise AssertionError(f"the gateway closed the connection; {len(ended)} of {count} streams had ended")


def streamed_completion(service: Deployed, host: str) -> bytes:
    """An HTTP request for a long answer as server-sent events."""
    fields = {"prompt": "The quick", "max_tokens": UNREAD_TOKENS, "stream": True, "logit_bias": BIAS}
    body = json.dumps({"model": "default", **fields}).encode()
    token = dict(service.metadata("client"))["authorization"]
    lines = ["POST /v1/completions HTTP/1.1", f"Host: {host}", f"Authorization: {token}"]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def is_answered(service: Deployed) -> bool:
    return bool(service.ask("Who is it?", max_tokens=2).version)


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_request_is_told_what_is_wrong(service: Deployed, case: str) -> None:
    request, code, named = REFUSED[case]
    with pytest.raises(grpc.RpcError) as caught:
        InferenceServiceStub(service.inference).Generate(
            request, metadata=service.metadata("client"), timeout=60
        )
    assert caught.value.code() is code
    assert named in str(failure_of(caught.value))
    assert is_answered(service)


@pytest.mark.parametrize("case", RAW)
def test_bytes_that_are_no_good_request_get_an_error_and_no_internals(service: Deployed, case: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        service.inference.unary_unary(GENERATE)(RAW[case], metadata=service.metadata("client"), timeout=60)
    assert caught.value.code() is INVALID
    assert failure_of(caught.value).reason == "INVALID_REQUEST"
    assert "class" not in (caught.value.details() or "")
    assert is_answered(service)


def test_a_client_that_leaves_frees_its_row(service: Deployed) -> None:
    endless = pb.GenerateStreamRequest()
    endless.CopyFrom(LONG)  # whose end token can't come
    endless.max_tokens = 1500
    with grpc.insecure_channel(service.service.addresses.inference) as channel:
        stream = InferenceServiceStub(channel).GenerateStream(endless, metadata=service.metadata("client"))
        next(stream)
        assert running(service) >= 1
    await_true(lambda: running(service) == 0, "nothing is under way")


def test_a_client_that_never_reads_is_answered_in_full_and_freed_at_its_deadline(
    service: Deployed, gateway: psutil.Process
) -> None:
    answers, memory = engine_answers(service), gateway.memory_info().rss
    headers = dict(service.metadata("client")) | {"grpc-timeout": f"{DEADLINE_S}S"}
    began = time.monotonic()
    with ClosedWindow(service.service.addresses.inference) as connection:
        for _ in range(UNREAD):
            connection.ask(STREAM, LONG.SerializeToString(), headers)
        await_true(lambda: engine_answers(service) >= answers + UNREAD, "engines have done with them")
        assert running(service) == UNREAD, "nothing has been read: the answers are still under way"
        assert gateway.memory_info().rss < memory + UNREAD * UNREAD_BYTES
        assert is_answered(service)
        await_true(lambda: running(service) == 0, "nothing is under way, though the connection is")
        assert time.monotonic() - began >= DEADLINE_S
        assert is_answered(service)
        assert DATA not in until_all_ended(connection, UNREAD), "the window was closed"


def test_a_client_that_never_reads_server_sent_events_is_bounded_by_its_buffers(
    service: Deployed, gateway: psutil.Process
) -> None:
    answers, memory = engine_answers(service), gateway.memory_info().rss
    host, port = service.service.addresses.http.rsplit(":", 1)
    with ExitStack() as stack:
        for _ in range(UNREAD):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            connection.settimeout(60)
            connection.connect((host, int(port)))
            connection.sendall(streamed_completion(service, host))
        await_true(lambda: engine_answers(service) >= answers + UNREAD, "engines have done with them")
        assert gateway.memory_info().rss < memory + UNREAD * UNREAD_BYTES
        assert is_answered(service)
    await_true(lambda: running(service) == 0, "nothing is under way")


def test_a_thousand_connections_that_send_nothing_leave_nothing_behind(
    service: Deployed, gateway: psutil.Process
) -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(IDLE, soft - SPARE_FILES)
    if count < 100:
        pytest.skip(f"this process may open only {soft} files")
    host, port = service.service.addresses.inference.rsplit(":", 1)
    memory, files = gateway.memory_info().rss, gateway.num_fds()
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(socket.create_connection((host, int(port)), timeout=30))
        await_true(lambda: gateway.num_fds() >= files + count // 2, "the gateway has accepted them")
        assert is_answered(service)
    await_true(lambda: gateway.num_fds() <= files + 20, "the gateway has closed them")
    assert gateway.memory_info().rss < memory + LEVEL_BYTES
    assert is_answered(service)


@pytest.mark.parametrize("port", ["inference", "operator", "http", "metrics"])
def test_random_bytes_at_a_port_disturb_nobody(service: Deployed, port: str) -> None:
    host, number = getattr(service.service.addresses, port).rsplit(":", 1)
    for size in islice((2**power for power in range(17)), 0, None, 4):
        with socket.create_connection((host, int(number)), timeout=30) as connection:
            try:
                connection.sendall(os.urandom(size))
                connection.shutdown(socket.SHUT_WR)
            except OSError:  # it has been closed already
                continue
    assert is_answered(service)
    assert running(service) == 0
