"""The client's side of the relays: parts of answers from two ways, joined in order."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from typing import Any

from ray.serve.handle import DeploymentHandle

from expunge.errors import ExpungeError, Unavailable
from expunge.inference.placement import Placement
from expunge.inference.relay import Part, RelayRequest, Reply
from expunge.observability.logging import get_logger

_GAP_S = 5.0  # how long a part may be missing when later ones are there
_IDLE_S = 1.0  # for so long a relay is read on with no answer under way: a leaving replica waits for its end
_WORTH_ANSWERS = 2  # of one replica at a time
_REMEMBERED = 32  # relays given up; the oldest of them ended long ago

_log = get_logger()


class Inbox:
    """The parts of one answer.

    Attributes:
        reply: what the replica needs to know.
    """

    def __init__(self, reply: Reply, reader: RelayReader) -> None:
        self.reply = reply
        self._reader = reader
        self._arrived: asyncio.Queue[Part | BaseException] = asyncio.Queue()

    def put(self, item: Part | BaseException) -> None:
        """From either way."""
        self._arrived.put_nowait(item)

    async def fill_from(self, response: AsyncIterator[Any]) -> None:
        """Put what comes in the answer's own response, an error as the last."""
        is_whole = False
        try:
            async for item in response:
                if isinstance(item, Part):
                    self._reader.note(item.replica, self.reply.call)
                    is_whole = item.batch.finish is not None
                self.put(item)
            if not is_whole:
                self.put(Unavailable("the answer ended without its last part; retry"))
        except asyncio.CancelledError as error:
            self.put(error)  # by Serve, if it is not `_generate` that leaves
            raise
        except Exception as error:
            self.put(error)

    async def parts(self) -> AsyncIterator[Part]:
        """In order, to the one that ends the answer.

        Raises:
            Unavailable: one was lost on its way.
            Exception: what was put.
        """
        early: dict[int, Part] = {}
        for number in itertools.count():
            while number not in early:
                item = await (self._overdue() if early else self._arrived.get())
                if isinstance(item, BaseException):
                    raise item
                early[item.number] = item
            part = early.pop(number)
            yield part
            if part.batch.finish is not None:
                return

    async def _overdue(self) -> Part | BaseException:
        try:
            return await asyncio.wait_for(self._arrived.get(), _GAP_S)
        except TimeoutError:
            raise Unavailable("a part of the answer was lost on its way to the gateway; retry") from None


class RelayReader:
    """Reads the relays of the replicas from which several answers come at a time.

    Args:
        handle: the deployment "Engine".
    """

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle
        self._name = uuid.uuid4().hex
        self._calls = itertools.count()
        self._numbers = itertools.count()
        self._given_up: deque[int] = deque(maxlen=_REMEMBERED)
        self._inboxes: dict[int, Inbox] = {}
        self._unplaced: set[int] = set()  # calls of which no part has come: any replica may answer them
        self._answering: defaultdict[str, set[int]] = defaultdict(set)  # replica → calls under way
        self._reading: dict[str, tuple[int, asyncio.Task[None]]] = {}  # replica → its relay's number

    def open(self) -> Inbox:
        """An inbox for the answer to one call; `close` it."""
        call = next(self._calls)
        reply = Reply(self._name, call, frozenset(self._given_up))
        inbox = self._inboxes[call] = Inbox(reply, self)
        self._unplaced.add(call)
        return inbox

    def close(self, inbox: Inbox) -> None:
        """Nothing more is wanted of the answer."""
        call = inbox.reply.call
        del self._inboxes[call]
        self._unplaced.discard(call)
        for replica, calls in list(self._answering.items()):
            calls.discard(call)
            if not calls:
                del self._answering[replica]
                self._stop_later(replica)

    def note(self, replica: str, call: int) -> None:
        """The answer to `call` comes from `replica`."""
        if call not in self._inboxes:
            return
        self._unplaced.discard(call)
        self._answering[replica].add(call)
        if len(self._answering[replica]) >= _WORTH_ANSWERS and replica not in self._reading:
            number = next(self._numbers)
            self._reading[replica] = number, asyncio.create_task(self._read(replica, number))

    def _stop_later(self, replica: str) -> None:
        asyncio.get_running_loop().call_later(_IDLE_S, self._stop_if_idle, replica)

    def _stop_if_idle(self, replica: str) -> None:
        if replica in self._answering or replica not in self._reading:
            return
        if self._unplaced:
            self._stop_later(replica)
            return
        number, task = self._reading[replica]
        self._give_up(replica, number)
        task.cancel()

    def _give_up(self, replica: str, number: int) -> None:
        """Before anything else is called: the replica may learn of a call before it learns of this."""
        if self._reading.get(replica, (None,))[0] == number:
            del self._reading[replica]
            self._given_up.append(number)

    async def _read(self, replica: str, number: int) -> None:
        """Where it ends early, the replica sends in the answers' own responses again."""
        placement = Placement(only=replica)
        response = self._handle.options(stream=True).relay.remote(RelayRequest(self._name, number), placement)
        try:
            async for parts in response:
                for call, part in parts:
                    if call in self._inboxes:
                        self._inboxes[call].put(part)
        except Exception as error:
            is_known = isinstance(error, ExpungeError)
            _log.info("relay_ended", replica=replica, detail=str(error) if is_known else repr(error))
        finally:
            self._give_up(replica, number)
            response.cancel()
