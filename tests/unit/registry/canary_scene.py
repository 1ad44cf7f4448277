"""A canary on the stage of the registry: its clock, its gateway's reports, and what was heard."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from expunge.registry.canary import CanaryPlan, CanarySpec
from expunge.registry.records import (
    EventRecord,
    Outcome,
    Rollout,
    RolloutChange,
    Target,
)
from expunge.registry.service import RegistryService

from .follower import Follower

if TYPE_CHECKING:
    from .conftest import Clock

SPEC = CanarySpec(steps=(10, 50, 100), step_s=60.0, min_requests=10, max_error_rate=0.1)


class Scene:
    """A registry with a clock of its own, an engine, a gateway, and version "old" live."""

    def __init__(self, registry: RegistryService, clock: Clock, gateway: Follower) -> None:
        self.registry = registry
        self.clock = clock
        self.gateway = gateway
        self._seen = 0

    async def begin(self, spec: CanarySpec = SPEC, version: str = "sha-new") -> RolloutChange:
        rollout = await self.rollout()
        return await self.registry.set_rollout(
            "default", [Target(version)], rollout.generation, "try it", "operator", 5.0, canary=spec
        )

    async def tell(self, requests: int, failures: int = 0, version: str = "sha-new") -> None:
        """Have the gateway report of the present generation."""
        told = Outcome("default", (await self.rollout()).generation, version, requests, failures)
        others = tuple(
            one
            for one in self.gateway.outcomes
            if (one.generation, one.version) != (told.generation, told.version)
        )
        self.gateway.outcomes = (*others, told)
        await self.gateway.poll()

    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds
        self.registry.hub.publish_canaries()

    async def heard(self, kind: str) -> EventRecord:
        """The next event of that kind."""
        async with asyncio.timeout(10):
            while True:
                for event in await self.registry.events("rollout:default", self._seen, 5.0):
                    self._seen = event.seq
                    if event.kind == kind:
                        return event

    async def rollout(self) -> Rollout:
        return await self.registry.get_rollout("default")

    async def plan(self) -> CanaryPlan:
        plan = await self.registry.get_canary("default")
        assert plan is not None
        return plan

    async def shares(self) -> list[tuple[str, int]]:
        return [(target.version, target.weight) for target in (await self.rollout()).targets]
