"""Continuous batching: a step drops what is over, prefills some prompts, decodes a token in every row."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from expunge.errors import ExpungeError
from expunge.inference.decode_batch import DecodeBatch
from expunge.inference.kv import KvScratch
from expunge.inference.limits import EngineLimits
from expunge.inference.prefill import Prefill, Prefilled
from expunge.inference.prefix_cache import PrefixCache
from expunge.inference.runner import ModelRunner
from expunge.inference.stats import EngineStats
from expunge.inference.task import Generation, Task
from expunge.inference.waiting import WaitingQueue
from expunge.observability.logging import get_logger

_log = get_logger()


@dataclass
class _LongPrefill:
    """A prompt above the budget of one step, prefilled piece by piece in turn with short ones."""

    task: Task
    scratch: KvScratch
    had_last_turn: bool = False


class StepLoop:
    """`step` belongs to one thread; `waiting.put` may be called from any.

    Args:
        runner: the model.
        limits: sizes.
        on_end: called once for every task that leaves, however it ended.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        runner: ModelRunner,
        limits: EngineLimits,
        on_end: Callable[[Task], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.waiting = WaitingQueue(limits.max_queue, lambda: limits.max_rows - len(self._batch))
        self._limits = limits
        self._on_end = on_end
        self._clock = clock
        self._batch = DecodeBatch(runner, limits.max_rows)
        self._cache = PrefixCache(limits.prefix_cache_bytes)
        self._prefiller = Prefill(runner, self._cache)
        self._long: _LongPrefill | None = None
        self._generated_tokens = 0

    @property
    def has_work(self) -> bool:
        return bool(len(self._batch) or self._long or len(self.waiting))

    def stats(self) -> EngineStats:
        """Counts as of now; callable from any thread."""
        return EngineStats(
            running=len(self._batch) + (self._long is not None),
            waiting=len(self.waiting),
            prompt_tokens=self._prefiller.computed_tokens,
            cached_prompt_tokens=self._prefiller.cached_tokens,
            generated_tokens=self._generated_tokens,
            prefix_cache_bytes=self._cache.bytes,
        )

    def step(self) -> None:
        """One turn. A part that breaks fails the tasks in it and leaves the others running."""
        self._drop_what_is_over()
        tasks = self._next_prefill()
        if tasks:
            self._attempt(tasks, lambda: self._prefill(tasks))
        if len(self._batch):
            self._attempt(self._batch.generations, self._decode)

    def forget(self, version: str) -> None:
        """Drop what was kept of prompts that ran on `version`."""
        self._cache.drop(version)

    def fail_all(self, error: ExpungeError) -> None:
        """End every task with `error`."""
        tasks: list[Task] = [*self.waiting.drop(lambda _: True), *self._batch.drop(lambda _: True)]
        if self._long:
            tasks.append(self._long.task)
            self._long = None
        for task in tasks:
            self._fail(task, error)

    # --- prefill

    def _next_prefill(self) -> list[Task]:
        """What to prefill in this step; a long prompt takes turns with the short ones that wait."""
        if self._long and not self._long.had_last_turn:
            return [self._long.task]
        budget = self._budget()
        most, cost = self._limits.idle_prefill_tokens, self._prefiller.cost
        tasks = self.waiting.take(budget, most, cost, lambda taken, task: self._fits(taken, task, budget))
        if tasks and cost(tasks[0]) > budget:
            self._long = _LongPrefill(tasks[0], self._prefiller.begin(tasks[0]))
        elif not tasks and self._long:
            return [self._long.task]
        return tasks

    def _budget(self) -> int:
        return self._limits.busy_prefill_tokens if len(self._batch) else self._limits.idle_prefill_tokens

    def _fits(self, taken: Sequence[Task], task: Task, budget: int) -> bool:
        """Whether `task` can be run to its very end besides all that runs and the `taken`."""
        if self._long and self._prefiller.cost(task) > budget:
            return False
        if not isinstance(task, Generation):
            return True
        if len(self._batch) + len(taken) >= self._limits.max_rows:
            return False  # the common case under load; the exact count follows
        long = [self._long.task] if self._long else []
        others = [*self._batch.generations, *(one for one in (*long, *taken) if isinstance(one, Generation))]
        rows = len(others) + 1
        longest = max(other.final_length for other in (*others, task))
        return rows <= self._limits.max_rows and (rows == 1 or rows * longest <= self._limits.kv_tokens)

    def _prefill(self, tasks: Sequence[Task]) -> None:
        if self._long:
            if tasks[0] is self._long.task:
                self._prefill_piece(self._long)
                return
            self._long.had_last_turn = False
        for task, prefilled in zip(tasks, self._prefiller.run(tasks), strict=True):
            self._take(task, prefilled)

    def _prefill_piece(self, long: _LongPrefill) -> None:
        logits = self._prefiller.extend(long.task, long.scratch, self._budget())
        long.had_last_turn = True
        if long.scratch.length == len(long.task.tokens):
            self._long = None
            self._take(long.task, Prefilled.whole(logits, long.scratch))
        elif len(logits):
            long.task.take_prompt(logits)

    def _take(self, task: Task, prefilled: Prefilled) -> None:
        task.take_prompt(prefilled.logits)
        if not isinstance(task, Generation):
            self._end(task)
        else:
            self._generated_tokens += min(1, task.limit)
            if not self._batch.join(task, prefilled.logits[-1], prefilled.scratch, prefilled.path):
                self._end(task)

    # --- decode

    def _decode(self) -> None:
        self._generated_tokens += len(self._batch)
        for task in self._batch.step():
            self._end(task)

    # --- leaving

    def _drop_what_is_over(self) -> None:
        over: list[Task] = [*self.waiting.drop(self._is_over), *self._batch.drop(self._is_over)]
        if self._long and self._is_over(self._long.task):
            over.append(self._long.task)
            self._long = None
        for task in over:
            if not task.is_cancelled:
                task.expire()
            self._end(task)

    def _is_over(self, task: Task) -> bool:
        return task.is_cancelled or (task.deadline is not None and self._clock() > task.deadline)

    def _attempt(self, tasks: Sequence[Task], work: Callable[[], None]) -> None:
        """Do `work` on `tasks`; if it breaks, they fail and nothing else does."""
        tasks = list(tasks)
        try:
            work()
        except Exception:
            incident = uuid.uuid4().hex
            versions = ", ".join(sorted({task.version for task in tasks}))
            _log.exception("engine_step_failed", incident=incident, version=versions)
            if self._long and self._long.task in tasks:
                self._long = None
            self._batch.drop(lambda generation: generation in tasks)
            for task in tasks:
                self._fail(task, ExpungeError(f"the engine failed on this request; incident {incident}"))

    def _fail(self, task: Task, error: ExpungeError) -> None:
        if not task.has_ended:
            task.deliver(error)
            self._end(task)

    def _end(self, task: Task) -> None:
        task.has_ended = True
        self._on_end(task)
