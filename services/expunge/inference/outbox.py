"""Results on their way from the engine's thread to a coroutine."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from expunge.inference.task import Item


class Outbox:
    """Delivers items in order to the event loop it was made in."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._items: list[Item] = []
        self._filled = asyncio.Event()

    def deliver(self, item: Item) -> None:
        """Hand over `item`; callable from any thread."""
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._put, item)

    async def take(self) -> list[Item]:
        """Everything that has arrived; waits until there is something."""
        await self._filled.wait()
        self._filled.clear()
        items, self._items = self._items, []
        return items

    def _put(self, item: Item) -> None:
        self._items.append(item)
        self._filled.set()
