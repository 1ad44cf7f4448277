"""Who runs: requests that have blocks of the KV pool, how they get in, and how they give way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from expunge.inference.block_pool import BLOCK, BlockPool, blocks_for
from expunge.inference.request import Priority
from expunge.inference.row import Row
from expunge.inference.task import Task
from expunge.inference.waiting import WaitingQueue

_FEW_PROMPTS = 2  # prefilled side by side however long they are, so that a short one is not stuck


class Rows:
    """The running requests, oldest first. Belongs to the engine's thread.

    Args:
        pool: whose blocks they hold.
        waiting: where they come from, and go back to when they give way.
        most: requests that may go on decoding.

    Attributes:
        cached_tokens: prompt tokens that did not need to be computed.
        preemptions: how often one gave way.
    """

    def __init__(self, pool: BlockPool, waiting: WaitingQueue, most: int) -> None:
        self._pool = pool
        self._waiting = waiting
        self._most = most
        self._rows: list[Row] = []
        self.cached_tokens = 0
        self.preemptions = 0

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    @property
    def held(self) -> int:
        """Rows that go on decoding, or will."""
        return sum(row.task.needs_row for row in self._rows)

    def admit(self, budget: int) -> None:
        """Let waiting requests in, in their order, as long as there is room and `budget` [tokens] for them.

        One that has no room holds back those behind it which need a row, so that a large one is not overtaken
        for ever. One whose beginning is just being computed for another waits for that.
        """
        is_blocked = False
        claimless: set[tuple[str, Priority]] = set()  # whose requests find no row that would give way
        for task in self._waiting.in_order():
            who = (task.client, task.priority)
            if task.needs_row and (is_blocked or who in claimless):
                continue
            prefilling = [row for row in self._rows if not row.decodes]
            if len(prefilling) >= _FEW_PROMPTS and sum(row.remaining for row in prefilling) >= budget:
                return
            is_full = task.needs_row and self.held >= self._most
            yielding = self._yielding(task) if is_full else None
            if is_full and yielding is None:
                claimless.add(who)  # others behind it may have a better claim to a row
                continue
            tokens = [*task.tokens, *task.written]
            shareable = len(tokens) - 1 if task.written else task.wanted.start
            kept = self._pool.match(task.version, tokens[:shareable])
            if _is_begun(task, tokens[:shareable], len(kept), prefilling):
                continue
            if yielding is not None:  # only now: nobody gives way to one that waits for another's prompt
                self._give_way(yielding)
            if not self._enter(task, tokens, kept):
                is_blocked = is_blocked or task.needs_row

    def with_room(self) -> list[Row]:
        """The rows; each that decodes has a place for its next token, for which others may give way."""
        for row in list(self._rows):
            while row in self._rows and row.decodes and row.needs_block:
                if self._pool.available:
                    row.blocks += self._pool.allocate(1)
                else:
                    self._give_way(max(self._rows, key=_dispensability))
        return self._rows

    def leave(self, row: Row) -> None:
        """Take `row` out; what it computed is kept for prompts that begin alike, if it is sound."""
        self._rows.remove(row)
        if row.task.is_sound and (row.task.written or row.decodes):
            self.keep(row)
        self._pool.release(row.blocks)

    def keep(self, row: Row) -> None:
        """Let prompts that begin alike use what `row` computed so far."""
        self._pool.keep(row.task.version, row.tokens[: row.computed], row.blocks)

    def _enter(self, task: Task, tokens: Sequence[int], kept: Sequence[int]) -> bool:
        """Give `task` the `kept` blocks and others for its prompt; false where there is no room."""
        spare = sum(row.task.needs_row for row in self._rows)  # each may need a block soon
        self._pool.acquire(kept)
        missing = blocks_for(len(tokens)) - len(kept)
        if missing + (spare if self._rows else 0) > self._pool.available:
            self._pool.release(kept)
            return False
        self._waiting.remove(task)
        self._rows.append(Row(task, [*kept, *self._pool.allocate(missing)], len(kept) * BLOCK))
        self.cached_tokens += len(kept) * BLOCK
        return True

    def _yielding(self, task: Task) -> Row | None:
        """Which row is to give way to `task`: of batch priority, or of a client with more than its part."""
        rows = [row for row in self._rows if row.task.needs_row]
        if task.priority is Priority.INTERACTIVE:
            batch = [row for row in rows if row.task.priority is Priority.BATCH]
            if batch:
                return batch[-1]
        alike = [row for row in rows if row.task.priority is task.priority]
        held = Counter(row.task.client for row in alike)
        if not held:
            return None
        client, most = held.most_common(1)[0]
        share = self._most // len({*held, task.client})
        if held[task.client] >= share or most <= share:
            return None
        return [row for row in alike if row.task.client == client][-1]

    def _give_way(self, row: Row) -> None:
        """Put `row` back to wait. What it wrote so far is prompt then, most of which is kept."""
        self.preemptions += 1
        self.leave(row)
        self._waiting.put_back(row.task)


def _dispensability(row: Row) -> tuple[bool, int]:
    """Batch before interactive, and the youngest first."""
    return row.task.priority is Priority.BATCH, row.task.arrival


def _is_begun(task: Task, tokens: Sequence[int], kept: int, prefilling: Sequence[Row]) -> bool:
    """Whether another prompt of the same version will soon keep more full blocks of `tokens` than `kept`."""
    end = (kept + 1) * BLOCK
    return len(tokens) >= end and any(
        row.task.version == task.version and row.shareable >= end and row.begins_with(tokens[:end])
        for row in prefilling
    )
