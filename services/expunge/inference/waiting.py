"""Requests that wait for their prefill: a bounded queue, fair to clients, interactive before batch."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

from expunge.errors import Overloaded
from expunge.inference.request import Priority
from expunge.inference.task import Task

RETRY_AFTER_S = 1.0
_MOST_REMEMBERED = 4096  # clients whose service is remembered while they have nothing waiting


class WaitingQueue:
    """Any thread may put; the engine's thread takes.

    Among waiting requests of one priority the next is of the client that has been served least, in tokens:
    a virtual token counter (Sheng et al. 2024, arXiv 2401.00588). A client that comes back after a pause
    starts from the least served of those who wait, or where nobody does from whoever left last, so that it
    can't save up. Each client's own requests keep their order.

    Args:
        limit: requests that may wait.
        free_rows: rows that are free now; as many requests more may pass through.
    """

    def __init__(self, limit: int, free_rows: Callable[[], int]) -> None:
        self._limit = limit
        self._free_rows = free_rows
        self._tasks: list[Task] = []
        self._served: dict[str, float] = {}
        self._last = ""  # the client that left last
        self._arrivals = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._tasks)

    def put(self, task: Task) -> None:
        """Append `task`.

        Where the queue is full and another client has more waiting than this one would, the youngest of those
        gives way, unless its text has begun: it is marked with `refusal`, for the engine's thread to tell.

        Raises:
            Overloaded: the queue is full.
        """
        with self._lock:
            if task.is_counted and self._waiting_count() >= self._limit + self._free_rows():
                self._displace(task)
            self._lift(task.client)
            self._arrivals += 1
            task.arrival = self._arrivals
            self._tasks.append(task)

    def put_back(self, task: Task) -> None:
        """Let a task that ran already wait again, in its old place."""
        with self._lock:
            self._tasks.append(task)

    def remove(self, task: Task) -> None:
        """Take `task` out, to run it."""
        with self._lock:
            self._tasks.remove(task)
            self._last = task.client

    def drop(self, is_over: Callable[[Task], bool]) -> list[Task]:
        """Take out and return every task for which `is_over`."""
        with self._lock:
            dropped = [task for task in self._tasks if is_over(task)]
            if dropped:
                self._tasks = [task for task in self._tasks if task not in dropped]
        return dropped

    def in_order(self) -> list[Task]:
        """Who comes next, as of now."""
        with self._lock:
            return sorted(self._tasks, key=self._turn)

    def charge(self, client: str, tokens: float) -> None:
        """Count what `client` was served."""
        with self._lock:
            self._served[client] = self._served.get(client, 0.0) + tokens

    def _turn(self, task: Task) -> tuple[bool, bool, float, int]:
        served = self._served.get(task.client, 0.0)
        return task.is_counted, task.priority is Priority.BATCH, served, task.arrival

    def _waiting_count(self) -> int:
        return sum(task.refusal is None and task.is_counted for task in self._tasks)

    def _displace(self, newcomer: Task) -> None:
        waiting = [task for task in self._tasks if task.refusal is None and task.is_counted]
        counts = Counter(task.client for task in waiting)
        client, most = counts.most_common(1)[0] if counts else (newcomer.client, 0)
        if most <= counts[newcomer.client] + 1:
            raise self._full(len(waiting))
        fresh = [task for task in waiting if task.client == client and not task.written]
        if not fresh:
            raise self._full(len(waiting))
        youngest = max(fresh, key=lambda task: task.arrival)
        youngest.refusal = self._full(len(waiting))

    def _full(self, waiting: int) -> Overloaded:
        return Overloaded(
            f"{waiting} requests are waiting on this replica already; retry later",
            metadata={"max_queue": str(self._limit)},
            retry_after_s=RETRY_AFTER_S,
        )

    def _lift(self, client: str) -> None:
        """What was not used while away does not count."""
        waiting = {task.client for task in self._tasks}
        if client in waiting:
            return
        if len(self._served) > _MOST_REMEMBERED:
            self._served = {
                name: self._served[name] for name in {*waiting, self._last} if name in self._served
            }
        least = min(self._served.get(name, 0.0) for name in waiting or {self._last})
        self._served[client] = max(self._served.get(client, 0.0), least)
