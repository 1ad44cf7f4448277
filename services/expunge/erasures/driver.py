"""Takes one erasure from wherever it is to its end, through cancellation, changes and passing failures."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from expunge.erasures.event_feed import EventFeed
from expunge.erasures.machine import EXCLUSIVE, require_allowed
from expunge.erasures.report import store_report
from expunge.erasures.steps import Move, Steps
from expunge.erasures.training_jobs import TrainingJobs
from expunge.erasures.waiting import Waiting
from expunge.errors import DeadlineExceeded, ExpungeError, Overloaded, StaleGeneration, Unavailable
from expunge.observability.logging import get_logger
from expunge.registry.records import ErasureRecord, ErasureState

if TYPE_CHECKING:
    from expunge.erasures.history import Registry

_MAY_PASS = (Unavailable, Overloaded, DeadlineExceeded)
_FIRST_DELAY_S = 0.5
_LONGEST_DELAY_S = 30.0
_UNEXPECTED_TRIES = 3
_log = get_logger()


class Driver:
    """Drives erasures, each in a task of its own; those that train do so one after the other.

    One at a time, because each new version must contain the one before: two that trained side by side from
    the same live version would undo each other, and the second had to start again.
    """

    def __init__(
        self, registry: Registry, steps: Steps, jobs: TrainingJobs, feed: EventFeed, waiting: Waiting
    ) -> None:
        self._registry = registry
        self._steps = steps
        self._jobs = jobs
        self._feed = feed
        self._waiting = waiting
        self._training = asyncio.Lock()
        self._trains = ""  # the erasure that holds the lock

    async def drive(self, erasure_id: str) -> None:
        """Go on until the erasure is in a final state."""
        holds = False
        delay_s, unexpected = _FIRST_DELAY_S, 0
        try:
            while True:
                record = await self._registry.get_erasure(erasure_id)
                if record.state.is_final:
                    await self._finish(record)
                    return
                wants = record.state in EXCLUSIVE or record.state is ErasureState.SUPPRESSED
                if holds and not wants:
                    self._give_turn()
                    holds = False
                try:
                    if wants and not holds:
                        holds = await self._may_train(record) and await self._take_turn(record)
                        continue
                    await self._step(record)
                    delay_s, unexpected = _FIRST_DELAY_S, 0
                except StaleGeneration:
                    continue  # somebody moved it: look again
                except _MAY_PASS as error:
                    _log.warning(
                        "step_waits", erasure_id=erasure_id, state=record.state.value, exc_info=error
                    )
                    await self._pause(record, f"waits and tries again: {error.message}", delay_s)
                except ExpungeError as error:
                    await self._fail(record, error.message, error)
                except Exception as error:
                    unexpected += 1
                    if unexpected >= _UNEXPECTED_TRIES:
                        await self._fail(record, f"internal error {type(error).__name__}", error)
                    _log.error("step_broke", erasure_id=erasure_id, state=record.state.value, exc_info=error)
                    await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, _LONGEST_DELAY_S)
        finally:
            if holds:
                self._give_turn()

    async def _step(self, record: ErasureRecord) -> None:
        """One step and the move that follows from it; given up when the erasure ends meanwhile."""
        step = asyncio.create_task(self._steps.run(record))
        ended = asyncio.create_task(self._until_final(record.id))
        try:
            await asyncio.wait({step, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not step.done():
                return
            move = step.result()
        finally:
            step.cancel()
            ended.cancel()
            await asyncio.gather(step, ended, return_exceptions=True)
        if move is not None:
            await self._move(record, move)

    async def _move(self, record: ErasureRecord, move: Move) -> None:
        require_allowed(record.id, record.state, move.state)
        await self._registry.advance_erasure(
            record.id,
            record.state,
            move.state,
            detail=move.detail,
            version=move.version,
            round=move.round,
            data=move.data,
            verdicts=move.verdicts,
        )
        _log.info("erasure_moved", erasure_id=record.id, state=move.state.value, version=move.version)

    async def _until_final(self, erasure_id: str) -> None:
        with self._feed.listening(f"erasure:{erasure_id}") as heard:
            while not (await self._registry.get_erasure(erasure_id)).state.is_final:
                await heard.wait()
                heard.clear()

    async def _may_train(self, record: ErasureRecord) -> bool:
        """Whether training can begin or go on; waits a while where it can't yet.

        One that goes back after a leak, or goes live with verdicts that count, is not held up.
        """
        if record.state in (ErasureState.INVERTING, ErasureState.STAGING):
            return True
        return await self._waiting.may_train(record)

    async def _take_turn(self, record: ErasureRecord) -> bool:
        """Wait for the right to train; False when the erasure ended first."""
        if self._training.locked():
            await self._waiting.say(record, f"waits for erasure {self._trains} to be live")
        turn = asyncio.create_task(self._training.acquire())
        ended = asyncio.create_task(self._until_final(record.id))
        try:
            await asyncio.wait({turn, ended}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._training.release()
            raise
        finally:
            ended.cancel()
            if not turn.done():
                turn.cancel()
        if turn.done() and not turn.cancelled():
            self._trains = record.id
            return True
        return False

    def _give_turn(self) -> None:
        self._trains = ""
        self._training.release()

    async def _pause(self, record: ErasureRecord, detail: str, seconds: float) -> None:
        with contextlib.suppress(StaleGeneration, Unavailable):
            await self._waiting.say(record, detail)
        await asyncio.sleep(seconds)

    async def _fail(self, record: ErasureRecord, why: str, error: Exception) -> None:
        _log.error("erasure_failed", erasure_id=record.id, state=record.state.value, exc_info=error)
        detail = f"{record.state.value} failed: {why}"
        if record.state.is_on_floor:  # to fail would take it off the floor
            await self._pause(record, f"{detail}; tries again", _LONGEST_DELAY_S)
            return
        with contextlib.suppress(StaleGeneration):
            await self._registry.advance_erasure(record.id, record.state, ErasureState.FAILED, detail=detail)

    async def _finish(self, record: ErasureRecord) -> None:
        """What remains to be done once an erasure has ended. Safe to repeat: a crash may have come first."""
        await self._jobs.cancel(record.id)
        if record.state is ErasureState.FAILED:
            await store_report(self._registry, record.id)
        _log.info("erasure_ended", erasure_id=record.id, state=record.state.value)
