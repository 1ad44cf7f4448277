"""Processor time and memory of a service's processes while a load runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import psutil

PERIOD_S = 0.5  # a look reads all of /proc, which takes from what is measured

Processes = Callable[[], Iterable[psutil.Process]]


@dataclass(frozen=True)
class Footprint:
    """What processes took, together.

    Attributes:
        cpu: cores' worth of processor time: 2.0 is two cores all the time.
        peak_rss_mib: most resident memory seen; pages that processes share count for each.
    """

    cpu: float
    peak_rss_mib: float


class FootprintMeter:
    """Measures while its block runs.

    Args:
        processes: those that count; asked again and again, since they come and go.
        clock: monotonic seconds.
    """

    def __init__(self, processes: Processes, clock: Callable[[], float] = time.perf_counter) -> None:
        self._processes = processes
        self._clock = clock
        self._over = threading.Event()
        self._peak = 0
        self._cpu: dict[int, tuple[float, float]] = {}  # pid → seconds used at first sight, and at the last

    def __enter__(self) -> Self:
        self._began = self._clock()
        self._look()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._look()
        self._seconds = self._clock() - self._began

    @property
    def footprint(self) -> Footprint:
        """Once the block is over."""
        used = sum(last - first for first, last in self._cpu.values())
        return Footprint(used / self._seconds, self._peak / 2**20)

    def _watch(self) -> None:
        while not self._over.wait(PERIOD_S):
            self._look()

    def _look(self) -> None:
        resident = 0
        for process in self._processes():
            try:
                times = process.cpu_times()
                resident += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
            used = times.user + times.system
            first, _ = self._cpu.get(process.pid, (used, used))
            self._cpu[process.pid] = (first, used)
        self._peak = max(self._peak, resident)


def family(pid: int, *, without: Iterable[int] = ()) -> list[psutil.Process]:
    """A process and all below it, but for those in `without`; [] when it is gone."""
    try:
        root = psutil.Process(pid)
        members = (root, *root.children(recursive=True))
    except psutil.NoSuchProcess:
        return []
    left_out = set(without)
    return [one for one in members if one.pid not in left_out]


def listener(port: int) -> int | None:
    """Process id of who listens on a TCP port of this machine, where that can be seen."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,):
                return connection.pid
    except psutil.AccessDenied:
        return None
    return None
