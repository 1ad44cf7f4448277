from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from expunge.config import Settings
from expunge.erasures.controller import ErasureController
from expunge.erasures.credential import verification_key
from expunge.erasures.history import History
from expunge.erasures.verification import LiveVerifier
from expunge.registry.records import ErasureRecord, ErasureState

from .recorded_work import RecordedWork
from .served_registry import Service, forget, serving

LIMIT_S = 20.0


class Run:
    """A service and the controller that runs in it, which can be killed and started again."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.work = RecordedWork(service.registry)
        self._controller: asyncio.Task[None] | None = None

    @property
    def registry(self) -> object:
        return self.service.registry

    def start(self) -> None:
        settings = self.service.settings
        verifier = LiveVerifier(verification_key(settings))
        controller = ErasureController(self.service.registry, self.work, verifier, settings)
        self._controller = asyncio.create_task(controller.run())

    async def kill(self) -> None:
        """End the controller in the middle of whatever it does."""
        if self._controller is not None:
            self._controller.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._controller
            self._controller = None

    async def kill_everything_and_restart(self) -> None:
        """Controller and registry die; both come back on the same database."""
        await self.kill()
        await self.service.crash()
        self.work.registry = self.service.registry
        self.start()

    async def accept(self, number: int = 1, name: str = "Mara Ellstrom") -> ErasureRecord:
        aliases = [rollout.alias for rollout in await self.service.registry.list_rollouts()]
        return await self.service.registry.create_erasure(forget(number, name), aliases, "operator")

    async def reached(self, erasure_id: str, *states: ErasureState) -> ErasureRecord:
        """Wait until the erasure enters one of `states`; fails when it ends elsewhere."""
        return await self.until(erasure_id, lambda record: record.state in states)

    async def until(self, erasure_id: str, condition: Callable[[ErasureRecord], bool]) -> ErasureRecord:
        """Wait until `condition` holds for the erasure."""
        registry, seen = self.service.registry, 0
        async with asyncio.timeout(LIMIT_S):
            while True:
                record = await registry.get_erasure(erasure_id)
                if condition(record):
                    return record
                assert not record.state.is_final, f"ended as {record.state}: {record.detail}"
                events = await registry.events(f"erasure:{erasure_id}", seen, 1.0)
                seen = events[-1].seq if events else seen

    async def states(self, erasure_id: str) -> list[str]:
        history = await History.read(self.service.registry, erasure_id)
        return [event.data["state"] for event in history.transitions]

    async def served(self, alias: str = "default") -> str:
        rollout = await self.service.registry.get_rollout(alias)
        return rollout.targets[0].version

    async def guarded(self) -> set[str]:
        """Erasures whose guard gateways hold."""
        member = self.service.gateway.member
        assert member is not None
        assert member.snapshot is not None
        return {guard.erasure_id for guard in member.snapshot.guards}


Idle = Callable[[], Awaitable[Run]]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        state_dir=tmp_path, max_rounds=2, candidates=4, thorough_audits=False, reaudit_interval_s=0
    )


@pytest_asyncio.fixture
async def idle(settings: Settings) -> AsyncIterator[Run]:
    """A service whose controller is not started yet."""
    async with serving(settings) as service:
        run = Run(service)
        try:
            yield run
        finally:
            await run.kill()


@pytest_asyncio.fixture
async def run(idle: Run) -> Run:
    """A service with its controller."""
    idle.start()
    return idle
