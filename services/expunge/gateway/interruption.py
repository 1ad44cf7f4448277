"""Work that something else may end before it is done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

NEVER_READ_S = 60  # a client that takes nothing of what it asked for is cut off


async def unless(interruption: Awaitable[object], work: Awaitable[T], error: Callable[[], Exception]) -> T:
    """What `work` returns, unless `interruption` ends first or with it: then `work` is cancelled.

    Raises:
        Exception: `error()`, if it was interrupted; else what `work` raises.
    """
    task, ending = asyncio.ensure_future(work), asyncio.ensure_future(interruption)
    try:
        await asyncio.wait({task, ending}, return_when=asyncio.FIRST_COMPLETED)
        if ending.done():
            ending.result()
            raise error()
        return await task
    finally:
        await ended(task)
        await ended(ending)


async def ended(task: asyncio.Future[T]) -> None:
    """Cancel what still runs and wait for its clean-up; its own error was, or will be, raised elsewhere."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()
