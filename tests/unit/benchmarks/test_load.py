"""The load generator, on a clock of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

import pytest

from expunge.benchmarks.serving.load import AskFailed, Load, Piece
from expunge.benchmarks.serving.plan import Ask, Plan
from expunge.benchmarks.serving.statistics import gaps


@dataclass
class Time:
    """A clock that moves only when somebody sleeps on it."""

    now: float = 100.0

    def read(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)  # whoever else can go on does


@dataclass
class ScriptedAsker:
    """Answers every request alike: waits, then a piece, again and again."""

    time: Time
    pieces: Sequence[tuple[float, Piece]]
    failure: str = ""
    asked: list[tuple[float, Ask]] = field(default_factory=list)
    running: int = 0
    most_running: int = 0

    async def ask(self, ask: Ask, timeout_s: float) -> AsyncGenerator[Piece, None]:
        self.asked.append((self.time.now, ask))
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            for wait, piece in self.pieces:
                await self.time.sleep(wait)
                yield piece
            if self.failure:
                raise AskFailed(self.failure)
        finally:
            self.running -= 1

    async def close(self) -> None: ...


def asks(count: int) -> tuple[Ask, ...]:
    return tuple(Ask("m", f"prompt {number}", 4) for number in range(count))


async def test_arrivals_are_noted_to_the_moment() -> None:
    time = Time()
    asker = ScriptedAsker(time, [(0.25, Piece(1, "v")), (0.5, Piece(2, "v")), (0.0, Piece(0, "v", 3, 32))])
    (response,) = await Load(asker, time.read, time.sleep).run(Plan(asks(1), streams=1))
    assert (response.sent, response.done) == (100.0, 100.75)
    assert response.arrivals == ((100.25, 1), (100.75, 2))
    assert gaps(response.arrivals) == [0.25, 0.25]
    assert (response.tokens, response.prompt_tokens, response.versions) == (3, 32, ("v",))


async def test_a_closed_loop_sends_everything_once_and_keeps_its_streams_busy() -> None:
    time = Time()
    asker = ScriptedAsker(time, [(0.1, Piece(1))])
    responses = await Load(asker, time.read, time.sleep).run(Plan(asks(7), streams=3))
    assert len(responses) == 7
    assert sorted(ask.prompt for _, ask in asker.asked) == [f"prompt {number}" for number in range(7)]
    assert asker.most_running == 3


async def test_an_open_loop_sends_at_its_times_whatever_comes_back() -> None:
    time = Time()
    asker = ScriptedAsker(time, [])
    plan = Plan(asks(3), gaps_s=(0.5, 0.25, 2.0))
    responses = await Load(asker, time.read, time.sleep).run(plan)
    assert len(responses) == 3
    assert time.now == pytest.approx(102.75)


async def test_a_late_send_does_not_push_the_later_ones_back() -> None:
    time = Time()
    waits: list[float] = []

    async def slow(seconds: float) -> None:
        waits.append(seconds)
        time.now += seconds + 0.2  # every pause takes a fifth of a second too long

    await Load(ScriptedAsker(time, []), time.read, slow).run(Plan(asks(3), gaps_s=(1.0, 1.0, 0.1)))
    assert waits == pytest.approx([1.0, 0.8, 0.0])


async def test_a_request_that_fails_part_way_keeps_what_came() -> None:
    time = Time()
    asker = ScriptedAsker(time, [(0.1, Piece(1, "v"))], failure="UNAVAILABLE: gone")
    responses = await Load(asker, time.read, time.sleep).run(Plan(asks(2), streams=1))
    assert [response.error for response in responses] == ["UNAVAILABLE: gone"] * 2
    assert [response.tokens for response in responses] == [1, 1]


async def test_a_flood_begins_anew_with_its_first_request_until_it_is_over() -> None:
    time = Time()
    asker = ScriptedAsker(time, [(0.1, Piece(1))], failure="full")
    begun, over = asyncio.Event(), asyncio.Event()

    async def sleep_until_enough(seconds: float) -> None:
        if len(asker.asked) >= 10:
            assert begun.is_set()
            over.set()
        await Time.sleep(time, seconds)

    time.sleep = sleep_until_enough  # type: ignore[method-assign]
    plan = Plan(asks(3), streams=2, is_endless=True)
    responses = await Load(asker, time.read).flood(plan, over.wait(), begun.set)
    sent = [ask.prompt for _, ask in asker.asked]
    assert sent[:7] == [f"prompt {number}" for number in (0, 1, 2, 0, 1, 2, 0)]
    assert (asker.most_running, asker.running) == (2, 0)
    assert {one.error for one in responses} == {"full"}
