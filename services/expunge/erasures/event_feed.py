"""One long poll of the registry's events, shared by everything in the controller that waits for a change."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from expunge.errors import Unavailable
from expunge.observability.logging import get_logger
from expunge.registry.records import EventRecord

if TYPE_CHECKING:
    from expunge.erasures.history import Registry

_POLL_S = 10.0
_RETRY_S = 0.5
_log = get_logger()


class EventFeed:
    """Follows all events and wakes those who listen for a topic."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._listeners: dict[asyncio.Event, tuple[str, ...]] = {}
        self._callbacks: list[Callable[[EventRecord], None]] = []

    def on_event(self, callback: Callable[[EventRecord], None]) -> None:
        """Have `callback` called with every event from now on, in order."""
        self._callbacks.append(callback)

    @contextlib.contextmanager
    def listening(self, *prefixes: str) -> Iterator[asyncio.Event]:
        """Set whenever something happens under one of the topic `prefixes`; clear it to wait anew.

        Look at the state after entering, not before, so that no change goes unnoticed.
        """
        heard = asyncio.Event()
        self._listeners[heard] = prefixes
        try:
            yield heard
        finally:
            del self._listeners[heard]

    async def run(self, after_seq: int) -> None:
        """Follow events after `after_seq` until cancelled, also while the registry restarts."""
        while True:
            try:
                events = await self._registry.events("", after_seq, _POLL_S)
            except Unavailable as error:
                _log.warning("registry_unreachable", reason=error.reason)
                await asyncio.sleep(_RETRY_S)
                continue
            for event in events:
                after_seq = event.seq
                self._pass_on(event)

    def _pass_on(self, event: EventRecord) -> None:
        for callback in self._callbacks:
            callback(event)
        for heard, prefixes in self._listeners.items():
            if event.topic.startswith(prefixes):
                heard.set()
