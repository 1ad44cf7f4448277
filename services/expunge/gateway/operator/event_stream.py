"""Streams events from the registry, resumable, until their subject has come to its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from expunge.errors import Overloaded, Unavailable
from expunge.gateway.interruption import unless
from expunge.gateway.upstream import RegistryUpstream
from expunge.registry.records import EventRecord

MAX_STREAMS = 256  # each occupies a call of the registry, which members need to keep their leases
_POLL_S = 2.0
_RETRY_S = 5.0


class EventStream:
    """Follows event topics by long polls; ends all of its streams when the gateway drains."""

    def __init__(self, registry: RegistryUpstream) -> None:
        self._registry = registry
        self._draining = asyncio.Event()
        self._open = 0

    def drain(self) -> None:
        """End every stream with Unavailable, so that callers resume elsewhere."""
        self._draining.set()

    async def events(
        self,
        topic_prefix: str,
        after_seq: int,
        *,
        wanted: Callable[[EventRecord], bool] = lambda event: True,
        has_ended: Callable[[], Awaitable[bool]] | None = None,
    ) -> AsyncIterator[EventRecord]:
        """Events after `after_seq`, oldest first, then new ones as they come.

        Args:
            topic_prefix: "" for every topic.
            wanted: which of them to pass on.
            has_ended: whether the subject is in its final state; asked when there is nothing to send.

        Raises:
            Unavailable: the gateway drains.
            Overloaded: too many streams are open.
        """
        if self._open >= MAX_STREAMS:
            raise Overloaded(f"{MAX_STREAMS} watches are open already; end some", retry_after_s=_RETRY_S)
        self._open += 1
        try:
            ended, patience_s = False, 0.0
            while True:
                found = await self._poll(topic_prefix, after_seq, patience_s)
                for event in found:
                    after_seq = event.seq
                    if wanted(event):
                        yield event
                if found:
                    patience_s = 0.0
                    continue
                if ended:  # looked once more after the final state, so nothing of before it is left out
                    return
                ended = has_ended is not None and await has_ended()
                patience_s = 0.0 if ended else _POLL_S
        finally:
            self._open -= 1

    async def first_seq(self, topic: str) -> int:
        """Number of the first event of `topic`; 0 when there is none."""
        found = await self._registry.events(topic, 0, 0.0)
        return next((event.seq for event in found if event.topic == topic), 0)

    async def _poll(self, topic_prefix: str, after_seq: int, timeout_s: float) -> list[EventRecord]:
        poll = self._registry.events(topic_prefix, after_seq, timeout_s)
        return list(await unless(self._draining.wait(), poll, _shutting_down))


def _shutting_down() -> Unavailable:
    return Unavailable("the gateway is shutting down; resume with the last seq", reason="DRAINING")
