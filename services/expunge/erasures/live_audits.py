"""Audits of what is live: thorough ones right after an erasure has closed, sampled ones from time to time.

They are jobs like any other, under ids that follow from what they ask, so that a restart asks for nothing
twice. The worker that finds a leak opens the erasure again (`unlearning.audit_stage`); nobody waits here.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from expunge.config import Settings
from expunge.erasures.history import History
from expunge.errors import Unavailable
from expunge.observability.logging import get_logger
from expunge.registry.records import ErasureRecord, ErasureState, JobKind, JobRecord, JobState
from expunge.unlearning.jobs import AuditSpec

if TYPE_CHECKING:
    from expunge.erasures.history import Registry

_AGAIN_S = 30.0
_log = get_logger()


class LiveAudits:
    """Asks for the audits of live versions.

    Args:
        wall: epoch seconds.
    """

    def __init__(self, registry: Registry, settings: Settings, wall: Callable[[], float]) -> None:
        self._registry = registry
        self._settings = settings
        self._wall = wall

    async def of_closed(self, erasure_id: str) -> None:
        """Have each version that an erasure made audited thoroughly. Safe to repeat."""
        record = await self._registry.get_erasure(erasure_id)
        if not self._settings.thorough_audits or record.state is not ErasureState.CLOSED:
            return
        history = await History.read(self._registry, erasure_id)
        made: Mapping[str, str] = history.latest("versions", ErasureState.AUDITING) or {}
        for index, (before, version) in enumerate(made.items(), start=1):
            spec = AuditSpec(version, [erasure_id], before, thorough=True, reopens=True)
            await self._ask(f"{erasure_id}-r{record.round}-thorough-{index}", spec)

    def missed(self, closed: ErasureRecord) -> bool:
        """Whether a restart may have come before `of_closed`: older ones are left to `periodically`."""
        return self._wall() - closed.updated_at < max(self._settings.reaudit_interval_s, 3600.0)

    async def periodically(self) -> None:
        """Have every live version audited against a sample of the closed erasures, for ever."""
        interval = self._settings.reaudit_interval_s
        if not interval:
            return
        while True:
            period = math.floor(self._wall() / interval)
            await asyncio.sleep((period + 1) * interval - self._wall())
            try:
                await self.of_live(period + 1)
            except Unavailable as error:
                _log.warning("reaudit_waits", exc_info=error)
                await asyncio.sleep(min(_AGAIN_S, interval))

    async def of_live(self, period: int) -> None:
        """The audits of one period, each of one live version. Safe to repeat."""
        closed = [one.id for one in await self._registry.list_erasures([ErasureState.CLOSED])]
        if not closed:
            return
        drawn = random.Random(f"reaudit/{period}")
        sample = sorted(drawn.sample(closed, min(self._settings.reaudit_sample, len(closed))))
        targets = (one for rollout in await self._registry.list_rollouts() for one in rollout.targets)
        for version in sorted({target.version for target in targets}):
            spec = AuditSpec(version, sample, reopens=True)
            await self._ask(f"reaudit-{period}-{version[:16]}", spec)

    async def _ask(self, job_id: str, spec: AuditSpec) -> None:
        job = JobRecord(job_id, JobKind.AUDIT, JobState.QUEUED, spec=spec.to_dict())
        await self._registry.create_job(job)
