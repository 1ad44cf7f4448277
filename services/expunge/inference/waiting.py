"""The queue of requests that wait for their prefill."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from expunge.errors import Overloaded
from expunge.inference.task import Task

RETRY_AFTER_S = 1.0

Fits = Callable[[Sequence[Task], Task], bool]
Cost = Callable[[Task], int]


class WaitingQueue:
    """First come, first served, and bounded. Any thread may put; the engine's thread takes.

    Args:
        limit: requests that may wait.
        free_rows: rows that are free now; as many requests more may pass through.
    """

    def __init__(self, limit: int, free_rows: Callable[[], int]) -> None:
        self._limit = limit
        self._free_rows = free_rows
        self._tasks: list[Task] = []
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._tasks)

    def put(self, task: Task) -> None:
        """Append `task`.

        Raises:
            Overloaded: the queue is full.
        """
        with self._lock:
            if len(self._tasks) >= self._limit + self._free_rows():
                raise Overloaded(
                    f"{len(self._tasks)} requests are waiting on this replica already; retry later",
                    metadata={"max_queue": str(self._limit)},
                    retry_after_s=RETRY_AFTER_S,
                )
            self._tasks.append(task)

    def drop(self, is_over: Callable[[Task], bool]) -> list[Task]:
        """Take out and return every task for which `is_over`."""
        with self._lock:
            dropped = [task for task in self._tasks if is_over(task)]
            self._tasks = [task for task in self._tasks if task not in dropped]
        return dropped

    def take(self, budget: int, most_tokens: int, cost: Cost, fits: Fits) -> list[Task]:
        """Take the tasks to prefill together: of one version, and one task or several.

        Of several, the costs sum up to at most `budget`, and the prompts to at most `most_tokens`: what need
        not be computed still is attended to. Tasks that need a row keep their order: one for which
        `fits(already taken, it)` is false holds back those behind it, so that a large one is not overtaken
        for ever. The others may pass.
        """
        with self._lock:
            taken: list[Task] = []
            total, tokens, rows_blocked = 0, 0, False
            for task in self._tasks:
                if not fits(taken, task):
                    rows_blocked = rows_blocked or task.needs_row
                    continue
                if task.needs_row and rows_blocked:
                    continue
                if taken and (task.version != taken[0].version or tokens + len(task.tokens) > most_tokens):
                    continue
                price = cost(task)
                if not taken or total + price <= budget:
                    taken.append(task)
                    total += price
                    tokens += len(task.tokens)
            self._tasks = [task for task in self._tasks if task not in taken]
        return taken
