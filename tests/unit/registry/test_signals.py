from __future__ import annotations

import asyncio

import pytest

from expunge.registry.signals import Signal


async def test_a_waiter_that_is_cancelled_while_it_is_being_woken_ends() -> None:
    signal = Signal()
    waiting = asyncio.create_task(signal.wait_until(lambda: False, 60.0))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    signal.notify()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(asyncio.shield(waiting), 5.0)


async def test_the_condition_is_looked_at_when_notified_and_at_the_end() -> None:
    signal, holds = Signal(), [False]
    waiting = asyncio.create_task(signal.wait_until(lambda: holds[0], 60.0))
    await asyncio.sleep(0)
    holds[0] = True
    signal.notify()
    assert await waiting
    holds[0] = False
    assert not await signal.wait_until(lambda: holds[0], 0.0)
    assert not await signal.wait_until(lambda: holds[0], 0.01)
