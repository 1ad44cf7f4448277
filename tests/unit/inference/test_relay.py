"""Parts of many answers share a relay, and arrive whole, in order, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace

import pytest

from expunge.config import Settings
from expunge.errors import ExpungeError, Overloaded, Unavailable
from expunge.inference import relay_reader
from expunge.inference.client import EngineClient
from expunge.inference.deployment import EngineDeployment
from expunge.inference.placement import Placement
from expunge.inference.relay import Part, RelayRequest, Relays, Reply
from expunge.inference.request import FinishReason, GenerationRequest, TokenBatch

TOKENS = 6


class Steps:
    """An engine whose answers have a token for every step that the test lets it take."""

    def __init__(self) -> None:
        self.step = 0
        self.failing: set[str] = set()
        self._stepped = asyncio.Condition()

    async def take(self, steps: int = 1) -> None:
        async with self._stepped:
            self.step += steps
            self._stepped.notify_all()

    async def generate(self, request: GenerationRequest, interval_s: float) -> AsyncIterator[TokenBatch]:
        first = self.step
        for number in range(TOKENS):
            async with self._stepped:
                await self._stepped.wait_for(lambda: self.step > first + number)  # noqa: B023
            if request.request_id in self.failing:
                raise Overloaded("no room")
            finish = FinishReason.LENGTH if number == TOKENS - 1 else None
            yield TokenBatch(f"{request.request_id}{number} ", (number,), "v", finish)


class Response:
    """One call's, as Serve's: items are iterated, `cancel` ends it."""

    def __init__(self, items: AsyncIterator[object], seen: list[object]) -> None:
        self._items, self._seen = items, seen
        self.is_cancelled = False

    async def __aiter__(self) -> AsyncIterator[object]:
        async for item in self._items:
            self._seen.append(item)
            yield item

    def cancel(self) -> None:
        self.is_cancelled = True


class Handle:
    """A deployment's handle that leads to one replica, whose methods are the real ones."""

    def __init__(self) -> None:
        self.engine = Steps()
        follower = SimpleNamespace(await_staged=self._staged)
        self.relays = Relays()
        parts = {"_engine": self.engine, "_follower": follower, "_relays": self.relays}
        self._deployment = SimpleNamespace(**parts, _settings=Settings(), _member="engine-0")
        self.direct: list[object] = []
        self.relayed: list[object] = []
        self.relay_calls: list[Response] = []
        self.generate = SimpleNamespace(remote=self._generate)
        self.relay = SimpleNamespace(remote=self._relay)

    def options(self, *, stream: bool) -> Handle:
        return self

    async def _staged(self, version: str) -> None: ...

    def _generate(self, request: GenerationRequest, placement: Placement, reply: Reply) -> Response:
        items = EngineDeployment.generate(self._deployment, request, placement, reply)  # type: ignore[arg-type]
        return Response(items, self.direct)

    def _relay(self, request: RelayRequest, placement: Placement) -> Response:
        assert placement.only == "engine-0"
        items = EngineDeployment.relay(self._deployment, request, placement)  # type: ignore[arg-type]
        self.relay_calls.append(Response(items, self.relayed))
        return self.relay_calls[-1]


async def answer(client: EngineClient, name: str) -> str:
    request = GenerationRequest(name, "v", prompt="The", max_tokens=TOKENS)
    return "".join([batch.text async for batch in client.generate(request)])


def whole(name: str) -> str:
    return "".join(f"{name}{number} " for number in range(TOKENS))


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110  # it is several objects' state, none of which tells of changes
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def answering(handle: Handle, *names: str) -> AsyncIterator[list[asyncio.Task[str]]]:
    """Answers under way of which the first parts are there; with two, the relay is open."""
    client = EngineClient(handle)  # type: ignore[arg-type]
    answers = [asyncio.create_task(answer(client, name)) for name in names]
    await until(lambda: len(handle.engine._stepped._waiters) == len(names))  # type: ignore[attr-defined]
    await handle.engine.take()
    await until(lambda: len(handle.direct) == len(names))
    if len(names) > 1:
        await until(lambda: bool(handle.relays._boxes))
    yield answers
    await asyncio.gather(*answers, return_exceptions=True)


async def test_what_is_between_first_and_last_part_shares_messages() -> None:
    handle = Handle()
    async with answering(handle, "a", "b", "c") as answers:
        for _ in range(TOKENS - 2):
            sent = sum(len(parts) for parts in handle.relayed)  # type: ignore[arg-type]
            await handle.engine.take()
            await until(lambda: sum(len(parts) for parts in handle.relayed) == sent + 3)  # type: ignore[arg-type]  # noqa: B023
        await handle.engine.take()
        assert await asyncio.gather(*answers) == [whole("a"), whole("b"), whole("c")]
    assert len(handle.direct) == 2 * 3
    assert len(handle.relayed) < (TOKENS - 2) * 3
    assert len(handle.relay_calls) == 1


async def test_the_last_part_waits_for_those_before_it() -> None:
    """It may overtake them: it comes another way."""
    handle = Handle()
    async with answering(handle, "a", "b") as answers:
        await handle.engine.take(TOKENS)
        assert await asyncio.gather(*answers) == [whole("a"), whole("b")]
    assert handle.relayed


async def test_one_answer_needs_no_relay() -> None:
    handle = Handle()
    async with answering(handle, "a") as (only,):
        await handle.engine.take(TOKENS)
        assert await only == whole("a")
    assert handle.relay_calls == []


async def test_without_its_relay_an_answer_goes_on_in_its_own_response() -> None:
    handle = Handle()
    async with answering(handle, "a", "b") as answers:
        handle.relays._boxes.clear()
        await handle.engine.take(TOKENS)
        assert await asyncio.gather(*answers) == [whole("a"), whole("b")]
    assert len(handle.direct) == 2 * TOKENS


async def test_an_answer_with_a_part_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_reader, "_GAP_S", 0.01)
    handle = Handle()
    async with answering(handle, "a", "b") as answers:
        (box,) = handle.relays._boxes.values()
        await handle.engine.take()
        await until(lambda: len(box.parts) == 2)
        box.parts.clear()
        await handle.engine.take(TOKENS)
        for one in answers:
            with pytest.raises(Unavailable, match="lost on its way"):
                await one


async def test_an_error_ends_its_own_answer_only() -> None:
    handle = Handle()
    async with answering(handle, "a", "b") as (failing, other):
        handle.engine.failing.add("a")
        await handle.engine.take(TOKENS)
        with pytest.raises(ExpungeError, match="no room"):
            await failing
        assert await other == whole("b")


async def test_a_relay_is_given_up_when_no_answer_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica that leaves waits until nobody asks it for anything."""
    monkeypatch.setattr(relay_reader, "_IDLE_S", 0.0)
    handle = Handle()
    async with answering(handle, "a", "b"):
        await handle.engine.take(TOKENS)
    await until(lambda: handle.relay_calls[0].is_cancelled)
    assert not relays_read(handle)


def relays_read(handle: Handle) -> bool:
    part = Part(1, TokenBatch("", (), "v"), "engine-0")
    return any(handle.relays.put(Reply(client, 0), part) for client in list(handle.relays._boxes))


async def test_an_answer_asked_for_later_does_not_use_a_relay_that_was_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The replica learns of the call before it learns that nobody reads any more."""
    monkeypatch.setattr(relay_reader, "_IDLE_S", 0.0)
    handle = Handle()
    async with answering(handle, "a", "b") as answers:
        (name,) = handle.relays._boxes
        await handle.engine.take(TOKENS)
        await asyncio.gather(*answers)
    await until(lambda: handle.relay_calls[0].is_cancelled)
    left = handle.relays.read(RelayRequest(name, 0))
    waiting = asyncio.ensure_future(anext(left))
    await until(lambda: name in handle.relays._boxes)
    part = Part(1, TokenBatch("", (), "v"), "engine-0")
    assert handle.relays.put(Reply(name, 2), part)
    assert not handle.relays.put(Reply(name, 3, frozenset({0})), part)
    await waiting
    await left.aclose()


async def test_a_relay_is_read_on_while_an_answer_may_still_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_reader, "_IDLE_S", 0.0)
    handle = Handle()
    client = EngineClient(handle)  # type: ignore[arg-type]
    reader = client._relays
    first, second, later = reader.open(), reader.open(), reader.open()
    for inbox in (first, second):
        reader.note("engine-0", inbox.reply.call)
    await until(lambda: bool(handle.relays._boxes))
    reader.close(first)
    reader.close(second)
    for _ in range(10):
        await asyncio.sleep(0)
    assert not handle.relay_calls[0].is_cancelled
    reader.close(later)
    await until(lambda: handle.relay_calls[0].is_cancelled)
    assert reader.open().reply.given_up == {0}
