"""Tokens of many answers on their way to one client, together: a message a step, not one for each answer.

Every message through a Serve handle costs both sides a good part of a millisecond. So an answer's first and
last part come in its own response, and those between through the relay that its client reads from the
replica, if it does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from expunge.inference.request import TokenBatch

_GATHER_S = 0.004  # the answers of one step become ready one after the other


@dataclass(frozen=True)
class Reply:
    """Where the parts of an answer go: a client's relay, and the call there.

    Attributes:
        given_up: numbers of relays that the client had stopped reading before it called; a replica may learn
            of that later than of the call.
    """

    client: str
    call: int
    given_up: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Part:
    """The `number`th part of an answer, from 0 on, and the replica that it comes from."""

    number: int
    batch: TokenBatch
    replica: str


@dataclass(frozen=True)
class RelayRequest:
    """Asks one replica for everything that goes through `client`'s relay of this number."""

    client: str
    number: int


@dataclass
class _Box:
    number: int
    parts: list[tuple[int, Part]] = field(default_factory=list)
    filled: asyncio.Event = field(default_factory=asyncio.Event)


class Relays:
    """The relays that are being read from this replica; a client has one at most. For one event loop."""

    def __init__(self) -> None:
        self._boxes: dict[str, _Box] = {}

    def put(self, reply: Reply | None, part: Part) -> bool:
        """Send `part` through the relay; False: nobody reads it."""
        box = self._boxes.get(reply.client) if reply is not None else None
        if reply is None or box is None or box.number in reply.given_up:
            return False
        box.parts.append((reply.call, part))
        box.filled.set()
        return True

    async def read(self, request: RelayRequest) -> AsyncIterator[list[tuple[int, Part]]]:
        """What is put for the client from now on, and the numbers of the calls, while it is iterated."""
        box = self._boxes[request.client] = _Box(request.number)
        try:
            while True:
                await box.filled.wait()
                await asyncio.sleep(_GATHER_S)
                box.filled.clear()
                parts, box.parts = box.parts, []
                yield parts
        finally:
            if self._boxes.get(request.client) is box:
                del self._boxes[request.client]
