"""Bad input over gRPC: each gets a clear error or has a bounded cost, and other calls go on."""

from __future__ import annotations

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

IDLE = 1000
SPARE_FILES = 300  # of this process, for everything else
LEVEL_BYTES = 64 * 2**20  # what the gateway's memory may differ by afterwards
GENERATE = "/expunge.inference.v1.InferenceService/Generate"
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
    with urllib.request.urlopen(f"http://{service.service.addresses.metrics}/metrics", timeout=30) as page:
        lines = page.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("expunge_admitted_answers "))


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
    with grpc.insecure_channel(service.service.addresses.inference) as channel:
        stream = InferenceServiceStub(channel).GenerateStream(
            pb.GenerateStreamRequest(prompt="The quick", max_tokens=1500), metadata=service.metadata("client")
        )
        next(stream)
        assert running(service) >= 1
    await_true(lambda: running(service) == 0, "nothing is under way")


def test_clients_that_never_read_cost_little_and_hold_nobody_up(
    service: Deployed, gateway: psutil.Process
) -> None:
    before = gateway.memory_info().rss
    with ExitStack() as stack:
        for _ in range(8):
            channel = stack.enter_context(
                grpc.insecure_channel(
                    service.service.addresses.inference, options=[("grpc.use_local_subchannel_pool", 1)]
                )
            )
            stream = InferenceServiceStub(channel).GenerateStream(
                pb.GenerateStreamRequest(prompt="The quick", max_tokens=1500),
                metadata=service.metadata("client"),
            )
            stack.callback(stream.cancel)
        assert is_answered(service)
    await_true(lambda: running(service) == 0, "nothing is under way")
    assert gateway.memory_info().rss < before + LEVEL_BYTES


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
