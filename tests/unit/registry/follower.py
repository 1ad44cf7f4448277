"""A gateway or engine replica as the registry sees one: a watch loop that stages what is wanted."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Protocol

from expunge.registry.records import MemberKind, MemberReport, Outcome, Snapshot


class Watched(Protocol):
    async def watch(self, report: MemberReport, known_revision: int, timeout_s: float) -> Snapshot | None: ...


class Follower:
    """Polls until it is stopped. `failing` versions are reported as failed, `ignored` ones never staged."""

    def __init__(self, registry: Watched, name: str, kind: MemberKind) -> None:
        self.snapshot: Snapshot | None = None
        self.failing: dict[str, str] = {}
        self.ignored: set[str] = set()
        self.outcomes: tuple[Outcome, ...] = ()
        self._registry = registry
        self._name = name
        self._kind = kind
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Follower:
        await self.poll()
        self._task = asyncio.create_task(self._follow())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Die without a word: no further poll, no leave."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def poll(self, timeout_s: float = 0.0) -> None:
        answer = await self._registry.watch(self._report(), self._revision, timeout_s)
        self.snapshot = answer or self.snapshot

    async def _follow(self) -> None:
        while True:
            await self.poll(timeout_s=5.0)

    @property
    def _revision(self) -> int:
        return self.snapshot.revision if self.snapshot else 0

    def _report(self) -> MemberReport:
        wanted = [version.id for version in self.snapshot.wanted] if self.snapshot else []
        refused = self.ignored | set(self.failing)
        return MemberReport(
            member=self._name,
            kind=self._kind,
            revision=self._revision,
            staged=tuple(version for version in wanted if version not in refused),
            failed={version: why for version, why in self.failing.items() if version in wanted},
            outcomes=self.outcomes,
        )
