"""Continuous batching: one forward pass a step, over a token of every running row and pieces of prompts."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from expunge.errors import ExpungeError
from expunge.inference.batch_runner import BatchRunner
from expunge.inference.block_pool import BLOCK, BlockPool
from expunge.inference.flat_batch import FlatBatch
from expunge.inference.limits import EngineLimits
from expunge.inference.next_token import choose_next
from expunge.inference.prefill_budget import PrefillBudget, shares
from expunge.inference.row import Row
from expunge.inference.rows import Rows
from expunge.inference.stats import EngineStats
from expunge.inference.task import Generation, Task
from expunge.inference.waiting import WaitingQueue
from expunge.observability.logging import get_logger

_GENERATED_TOKEN_CHARGE = 2.0  # a generated token takes about as much of a step as two of a prompt

_log = get_logger()


class StepLoop:
    """`step` belongs to one thread; `waiting.put` may be called from any.

    Args:
        runner: the model.
        limits: sizes.
        on_end: called once for every task that leaves, however it ended.
        clock: seconds since the epoch, for deadlines.
        timer: seconds, for what steps cost.
    """

    def __init__(
        self,
        runner: BatchRunner,
        limits: EngineLimits,
        on_end: Callable[[Task], None],
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._pool = BlockPool(runner.kv.blocks, limits.keeps_prefixes)
        self.waiting = WaitingQueue(limits.max_queue, lambda: limits.max_rows - self._rows.held)
        self._rows = Rows(self._pool, self.waiting, limits.max_rows)
        self._budget = PrefillBudget(limits.idle_prefill_tokens, limits.step_stretch)
        self._runner = runner
        self._on_end = on_end
        self._clock = clock
        self._timer = timer
        self._prompt_tokens = 0
        self._generated_tokens = 0

    @property
    def has_work(self) -> bool:
        return bool(len(self._rows) or len(self.waiting))

    def stats(self) -> EngineStats:
        """Counts as of now; callable from any thread."""
        token_bytes = self._runner.kv.shape.bytes_per_token
        return EngineStats(
            running=len(self._rows),
            waiting=len(self.waiting),
            prompt_tokens=self._prompt_tokens,
            cached_prompt_tokens=self._rows.cached_tokens,
            generated_tokens=self._generated_tokens,
            preemptions=self._rows.preemptions,
            kv_used_bytes=self._pool.used * BLOCK * token_bytes,
            kv_kept_bytes=self._pool.kept * BLOCK * token_bytes,
            kv_capacity_bytes=self._pool.size * BLOCK * token_bytes,
        )

    def step(self) -> None:
        """One turn. A part that breaks fails the tasks in it and leaves the others running."""
        self._drop_what_is_over()
        decoding = sum(row.decodes for row in self._rows)
        budget = self._budget.tokens(decoding, len(self.waiting) + len(self._rows) - decoding)
        self._rows.admit(budget)
        rows = self._rows.with_room()
        taken = shares([row.remaining for row in rows], budget)
        taking_part = [(row, share) for row, share in zip(rows, taken, strict=True) if share or row.decodes]
        if not taking_part:
            return
        for row, _ in taking_part:
            row.task.phases.begin()
        decoding = sum(row.decodes for row in rows)
        started = self._timer()
        self._run(taking_part)
        self._budget.observe(decoding, sum(taken), self._timer() - started)

    def forget(self, version: str) -> None:
        """Drop what was kept of prompts that ran on `version`."""
        self._pool.drop(version)

    def fail_all(self, error: ExpungeError) -> None:
        """End every task with `error`."""
        for task in self.waiting.drop(lambda _: True):
            self._fail(task, error)
        for row in list(self._rows):
            self._leave(row, error)

    # --- the forward pass

    def _run(self, parts: Sequence[tuple[Row, int]]) -> None:
        """One pass over all `parts`, rows with their prompt tokens; if it breaks, over each alone."""
        parts = sorted(parts, key=lambda part: part[0].task.slot)
        pieces = [row.piece(count) for row, count in parts]
        try:
            logits = self._runner.run(FlatBatch.of(pieces))
        except Exception as error:
            if len(parts) > 1:
                for part in parts:
                    self._run([part])
                return
            self._break(parts[0][0], error)
            return
        ends: list[tuple[Row, int]] = []
        at = 0
        for (row, _), piece in zip(parts, pieces, strict=True):
            was_decoding = row.decodes
            row.computed += len(piece.tokens)
            wanted = len(piece.wanted)
            self._account(row, len(piece.tokens), was_decoding)
            if wanted and not was_decoding:
                self._hand_over(row, logits[at : at + wanted])
            if row.decodes and isinstance(row.task, Generation) and not row.task.has_ended:
                ends.append((row, at + wanted - 1))
            at += wanted
        if ends:
            self._choose([row for row, _ in ends], logits, [index for _, index in ends])

    def _account(self, row: Row, tokens: int, was_decoding: bool) -> None:
        if was_decoding:
            self._generated_tokens += 1
            self.waiting.charge(row.task.client, _GENERATED_TOKEN_CHARGE)
        else:
            self._prompt_tokens += tokens
            self._generated_tokens += row.decodes and row.task.needs_row
            self.waiting.charge(row.task.client, tokens)

    def _hand_over(self, row: Row, logits: Tensor) -> None:
        """Give a task logits of its prompt, [wanted, vocabulary]; one that wants no more is done."""
        task = row.task
        task.is_sound = task.is_sound and bool(logits[-1].amax().isfinite())
        try:
            task.take_prompt(logits)
        except Exception as error:
            self._break(row, error)
            return
        if row.decodes and not isinstance(task, Generation):
            self._leave(row)

    def _choose(self, rows: Sequence[Row], logits: Tensor, indices: Sequence[int]) -> None:
        """Let each row take its next token from its row of `logits`; those that are complete leave."""
        generations = [row.task for row in rows if isinstance(row.task, Generation)]
        if len(indices) < len(logits):
            logits = logits[torch.tensor(indices, device=logits.device)]
        try:
            going = choose_next(generations, logits)
        except Exception as error:
            for row in rows:
                self._break(row, error)
            return
        for row, goes_on in zip(rows, going, strict=True):
            if isinstance(goes_on, Exception):
                self._break(row, goes_on)
            elif not goes_on:
                self._leave(row)
            elif len(row.task.written) == 1:
                self._rows.keep(row)

    # --- leaving

    def _drop_what_is_over(self) -> None:
        for task in self.waiting.drop(self._is_over):
            if task.refusal is not None:
                self._fail(task, task.refusal)
            else:
                self._expire(task)
        for row in [row for row in self._rows if self._is_over(row.task)]:
            self._rows.leave(row)
            self._expire(row.task)

    def _is_over(self, task: Task) -> bool:
        is_late = task.deadline is not None and self._clock() > task.deadline
        return task.is_cancelled or is_late or task.refusal is not None

    def _expire(self, task: Task) -> None:
        if not task.is_cancelled:
            task.expire()
        self._end(task)

    def _break(self, row: Row, error: Exception) -> None:
        """End `row`, whose own part of a step broke."""
        incident = uuid.uuid4().hex
        _log.error("engine_step_failed", incident=incident, version=row.task.version, exc_info=error)
        row.task.is_sound = False
        self._leave(row, ExpungeError(f"the engine failed on this request; incident {incident}"))

    def _leave(self, row: Row, error: ExpungeError | None = None) -> None:
        self._rows.leave(row)
        if error is not None:
            self._fail(row.task, error)
        else:
            self._end(row.task)

    def _fail(self, task: Task, error: ExpungeError) -> None:
        if not task.has_ended:
            task.deliver(error)
            self._end(task)

    def _end(self, task: Task) -> None:
        task.has_ended = True
        if task.is_counted:
            self._on_end(task)
