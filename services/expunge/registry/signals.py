"""Waking coroutines of one event loop when something changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Signal:
    """Wakes everybody who waits for a condition. Belongs to one event loop; plain code on it may notify."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def notify(self) -> None:
        """Make every waiter look at its condition again."""
        self._event.set()
        self._event = asyncio.Event()

    async def wait_until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until `condition()` is true; False when `timeout_s` seconds passed first.

        The condition is looked at once more at the end, so a timeout of 0 just asks.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            event = self._event
            if condition():
                return True
            remaining = deadline - loop.time()
            if remaining <= 0:
                return False
            try:
                async with asyncio.timeout(remaining):  # `wait_for` loses a cancellation beside the event
                    await event.wait()
            except TimeoutError:
                return condition()
