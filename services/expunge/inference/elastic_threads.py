"""As many threads for torch as other processes leave cores free.

An operator is done when the slowest of its threads is. Where two processes share cores, a thread that waits
for a core holds up its siblings: two processes with a thread for every core are slower, both of them, than
with one thread each (docs/unlearning.md, "Time"). So engine and workers look every other second at what
others use, and compute with one thread for each core that is left.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil
import torch

PERIOD_S = 2.0
FIRST_S = 0.25  # the same after a pause, in which others may have come or gone
PAUSE_S = 1.0
TAKEN = 0.65  # share of a core that others must use for it to count as theirs


@dataclass(frozen=True)
class CpuSeconds:
    """Processor time used since some fixed moment: by this process, and by everything on the machine."""

    own: float
    all: float

    @classmethod
    def now(cls) -> CpuSeconds:
        mine = psutil.Process().cpu_times()
        machine = psutil.cpu_times()
        idle = machine.idle + getattr(machine, "iowait", 0.0)
        guest = getattr(machine, "guest", 0.0) + getattr(machine, "guest_nice", 0.0)  # counted as user, too
        return cls(mine.user + mine.system, sum(machine) - idle - guest)


class ElasticThreads:
    """Sets torch's number of threads; belongs to the one thread that computes.

    Args:
        most: never more threads than this.
        cores: of the machine.
        measure: processor time as of now.
        apply: sets the number of threads of the calling thread, and the number that threads begin with.
        current: the number of the calling thread.
        clock: seconds.
    """

    def __init__(
        self,
        most: int,
        *,
        cores: int | None = None,
        measure: Callable[[], CpuSeconds] = CpuSeconds.now,
        apply: Callable[[int], None] = torch.set_num_threads,
        current: Callable[[], int] = torch.get_num_threads,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._cores = cores or psutil.cpu_count() or 1
        self._measure = measure
        self._apply = apply
        self._current = current
        self._clock = clock
        self._last: tuple[float, CpuSeconds] | None = None
        self._looks_after_s = FIRST_S
        self._called = -PAUSE_S
        self._wanted = most

    def adjust(self) -> None:
        """Call it between two pieces of work; it looks at others' use once in `PERIOD_S`.

        It asks each time for the number that holds: another thread that sets its own changes what a thread
        that has not computed yet begins with.
        """
        self._look()
        if self._current() != self._wanted:
            self._apply(self._wanted)

    def _look(self) -> None:
        if self._most == 1:
            return
        now, before_s = self._clock(), self._called
        self._called = now
        if self._last is None or now - before_s > PAUSE_S:
            self._last, self._looks_after_s = (now, self._measure()), FIRST_S
            return
        since, before = self._last
        if now - since < self._looks_after_s:
            return
        used = self._measure()
        others = max(0.0, (used.all - before.all) - (used.own - before.own)) / (now - since)
        self._wanted = max(1, min(self._most, int(self._cores - others + TAKEN)))
        self._last, self._looks_after_s = (now, used), PERIOD_S
