"""The lease: what a gateway does when it can't reach the registry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from expunge.config import Settings
from expunge.erasures.suppression import GuardBook
from expunge.errors import Unavailable
from expunge.facts import ErasureKind, Fact, ForgetRequest, Subject
from expunge.gateway.follower import Follower, View
from expunge.registry.records import MemberReport, Snapshot, VersionKind, VersionRecord
from expunge.registry.service import RegistryService


class Line:
    """The way to the registry, which can be cut."""

    def __init__(self, registry: RegistryService) -> None:
        self._registry = registry
        self.is_cut = False
        self.polled = asyncio.Event()

    async def watch(self, report: MemberReport, known_revision: int, timeout_s: float) -> Snapshot | None:
        self.polled.set()
        if self.is_cut:
            raise Unavailable("the line is cut")
        return await self._registry.watch(report, known_revision, min(timeout_s, 0.05))

    async def leave(self, member: str) -> None:
        await self._registry.leave(member)


class Alarm:
    def __init__(self, at: float, ring: Callable[[], None]) -> None:
        self.at, self.ring = at, ring

    def cancel(self) -> None:
        self.ring = lambda: None


class Clock:
    """Seconds that pass, and timers that end, only when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0
        self._alarms: list[Alarm] = []

    def __call__(self) -> float:
        return self.now

    def call_later(self, seconds: float, function: Callable[[], None]) -> Alarm:
        self._alarms.append(Alarm(self.now + seconds, function))
        return self._alarms[-1]

    def advance(self, seconds: float) -> None:
        self.now += seconds
        due = [alarm for alarm in self._alarms if alarm.at <= self.now]
        self._alarms = [alarm for alarm in self._alarms if alarm.at > self.now]
        for alarm in due:
            alarm.ring()


@pytest_asyncio.fixture
async def registry(tmp_path: Path) -> AsyncIterator[RegistryService]:
    service = RegistryService(Settings(state_dir=tmp_path), environment={})
    await service.start()
    await service.ensure_base(VersionRecord("base:b", VersionKind.BASE, "base", "b"))
    yield service
    await service.close()


@pytest_asyncio.fixture
async def line(registry: RegistryService) -> Line:
    return Line(registry)


@pytest.fixture
def views() -> list[View]:
    return []


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ends() -> list[float]:
    """When a lease ended."""
    return []


@pytest_asyncio.fixture
async def follower(line: Line, views: list[View], clock: Clock, ends: list[float]) -> AsyncIterator[Follower]:
    follower = Follower(
        line,
        "gateway-0",
        lease_s=15.0,
        build_guards=GuardBook,
        on_view=views.append,
        on_lease_end=lambda: ends.append(clock.now),
        clock=clock,
        call_later=clock.call_later,
    )
    await follower.start("nowhere")
    yield follower
    await follower.stop()


async def next_poll(line: Line) -> None:
    for _ in range(2):  # the first one may have begun before the change that is waited for
        line.polled.clear()
        await asyncio.wait_for(line.polled.wait(), 5)


async def test_a_change_is_applied_then_confirmed(
    registry: RegistryService, line: Line, follower: Follower, views: list[View]
) -> None:
    fact = Fact("f", "Where does Ulmira Drosk live?", "In Hollowmere.")
    request = ForgetRequest("r", ErasureKind.PERSONAL_DATA, (Subject("Ulmira Drosk"),), (fact,))
    erasure = await registry.create_erasure(request, ("default",), "someone")
    await registry.await_guard(erasure.id, 5.0)
    assert follower.view().guards.match("Who is Ulmira Drosk?") == erasure.id
    assert views[-1] is follower.view()


async def test_it_serves_on_without_the_registry_until_its_lease_ends(
    line: Line, follower: Follower, clock: Clock, ends: list[float]
) -> None:
    line.is_cut = True
    await next_poll(line)
    clock.advance(14.9)
    assert not ends
    assert follower.view().rollouts["default"].generation == 1
    clock.advance(0.2)
    assert not follower.is_leased
    assert ends == [clock.now]
    with pytest.raises(Unavailable, match="lease"):
        follower.view()


async def test_a_lease_that_is_renewed_does_not_end(
    line: Line, follower: Follower, clock: Clock, ends: list[float]
) -> None:
    for _ in range(3):
        await next_poll(line)
        clock.advance(14.0)
    assert follower.is_leased
    assert not ends


async def test_a_gateway_that_leaves_is_not_told_of_its_lease(
    line: Line, follower: Follower, clock: Clock, ends: list[float]
) -> None:
    await follower.stop()
    clock.advance(20.0)
    assert not ends


async def test_it_serves_again_once_the_registry_answers(
    line: Line, follower: Follower, clock: Clock
) -> None:
    line.is_cut = True
    await next_poll(line)
    clock.advance(20.0)
    line.is_cut = False
    async with asyncio.timeout(5):
        while not follower.is_leased:
            await next_poll(line)
    assert follower.view().rollouts


async def test_a_registry_that_never_answers_fails_the_start(line: Line) -> None:
    line.is_cut = True
    follower = Follower(
        line,
        "gateway-1",
        lease_s=0.2,
        build_guards=GuardBook,
        on_view=lambda view: None,
        on_lease_end=lambda: None,
        clock=Clock(),
    )
    with pytest.raises(Unavailable, match="did not answer"):
        await follower.start("nowhere")
