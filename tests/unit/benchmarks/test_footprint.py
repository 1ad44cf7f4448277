"""Processor time and memory of real processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import psutil

from expunge.benchmarks.serving.footprint import FootprintMeter, family, listener

WAITING = [sys.executable, "-c", "import sys; sys.stdin.read()"]


def test_the_work_between_beginning_and_end_is_measured() -> None:
    times = iter([0.0, 10.0])
    mine = psutil.Process()
    before = sum(mine.cpu_times()[:2])
    with FootprintMeter(lambda: [mine], lambda: next(times)) as meter:
        while sum(mine.cpu_times()[:2]) - before < 0.2:
            sum(range(10_000))
    used = sum(mine.cpu_times()[:2]) - before
    assert 0.01 < meter.footprint.cpu <= used / 10 + 1e-9
    assert meter.footprint.peak_rss_mib > 10


def test_a_family_is_a_process_and_its_children_but_those_left_out() -> None:
    with (
        subprocess.Popen(WAITING, stdin=subprocess.PIPE) as one,
        subprocess.Popen(WAITING, stdin=subprocess.PIPE) as other,
    ):
        found = {process.pid for process in family(os.getpid(), without=[other.pid])}
        assert {os.getpid(), one.pid} <= found
        assert other.pid not in found
        for process in (one, other):
            process.communicate()
    assert family(one.pid) == []


def test_the_listener_of_a_port_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert listener(port) == os.getpid()
    assert listener(port) is None
