"""Work that something else may end."""

from __future__ import annotations

import asyncio

import pytest

from expunge.errors import Unavailable
from expunge.gateway.interruption import unless


def gone() -> Unavailable:
    return Unavailable("gone")


async def test_what_is_not_interrupted_returns_or_raises_its_own() -> None:
    never = asyncio.Event()

    async def broken() -> None:
        raise ValueError("broken")

    assert await unless(never.wait(), asyncio.sleep(0, "done"), gone) == "done"
    with pytest.raises(ValueError, match="broken"):
        await unless(never.wait(), broken(), gone)


async def test_an_interruption_cancels_the_work_and_waits_for_its_clean_up() -> None:
    interruption, begun, cleaned_up = asyncio.Event(), asyncio.Event(), []

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned_up.append(True)

    waiting = asyncio.ensure_future(unless(interruption.wait(), work(), gone))
    await begun.wait()
    interruption.set()
    with pytest.raises(Unavailable):
        await waiting
    assert cleaned_up


async def test_an_interruption_that_came_first_wins_over_work_that_is_done() -> None:
    interruption = asyncio.Event()
    interruption.set()
    done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    done.set_result("an answer that must not be told")
    with pytest.raises(Unavailable):
        await unless(interruption.wait(), done, gone)


async def test_who_gives_up_waiting_ends_the_work() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    waiting = asyncio.ensure_future(unless(asyncio.Event().wait(), work(), gone))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert ended.is_set()
