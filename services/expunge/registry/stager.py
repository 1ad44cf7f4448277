"""Getting versions onto every engine replica before anybody is sent there."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence

from expunge.errors import DeadlineExceeded, FailedPrecondition, Unavailable
from expunge.observability.logging import get_logger
from expunge.registry.core import Core
from expunge.registry.records import MemberReport, VersionRecord, VersionState
from expunge.registry.versions import retired

NO_FREE_SLOT = "NO_FREE_SLOT"  # why a staging was refused: replicas hold all the versions they can
_log = get_logger()


class Stager(Core):
    """The part of the registry that makes replicas stage versions."""

    @contextlib.asynccontextmanager
    async def holding(self, versions: Sequence[VersionRecord]) -> AsyncIterator[None]:
        """Want `versions` resident inside this context. Raises FailedPrecondition when there is no room."""
        self._require_room(versions)
        for version in versions:
            self.staging.acquire(version)
        try:
            await self._publish_wanted()
            yield
        finally:
            for version in versions:
                self.staging.release(version.id)
            await self._publish_unwanted()

    async def pin(self, version: VersionRecord) -> None:
        """Want one version resident until it is rolled out or unpinned."""
        if version.state is not VersionState.READY:
            raise retired(version.id)
        self._require_room([version])
        self.staging.pin(version)
        await self._publish_wanted()

    async def unpin(self, version: str) -> None:
        self.staging.unpin(version)
        await self._publish_wanted()

    async def stage_everywhere(self, versions: Sequence[str], timeout_s: float) -> tuple[str, ...]:
        """Wait until every live replica holds `versions`, or has failed, or has missed its deadline.

        The deadline is `settings.staging_timeout_s` after the versions were wanted, or the replica joined.

        Returns:
            The replicas that do not hold them and must leave routing.

        Raises:
            FailedPrecondition: no replica holds them; says why, replica by replica.
            DeadlineExceeded: `timeout_s` passed before the replicas' own deadline.
        """
        revision = self.hub.snapshot.revision
        wanted = set(versions)
        allowed_s = self._staging_time_left(versions)

        def is_settled(report: MemberReport) -> bool:
            has_tried = revision <= report.revision <= self.hub.snapshot.revision
            return wanted <= set(report.staged) or (has_tried and bool(wanted & set(report.failed)))

        def all_settled() -> bool:
            replicas = self.membership.stagers()
            return bool(replicas) and all(is_settled(report) for report in replicas)

        settled = await self.wait_for_members(all_settled, min(allowed_s, timeout_s))
        replicas = self.membership.stagers()
        if not settled and timeout_s < allowed_s:
            waiting = [report.member for report in replicas if not is_settled(report)]
            raise DeadlineExceeded(
                f"version {', '.join(versions)} was not staged within {timeout_s:g} s "
                f"on {', '.join(waiting) or 'any replica'}; nothing was changed, try again with more time"
            )
        late = tuple(report.member for report in replicas if not wanted <= set(report.staged))
        if len(late) == len(replicas):
            raise FailedPrecondition(
                f"version {', '.join(versions)} can't be staged: {_reasons(replicas, wanted)}",
                reason="VERSION_NOT_STAGED",
            )
        return late

    def _staging_time_left(self, versions: Sequence[str]) -> float:
        wanted_since = max(self.staging.since(version) for version in versions)
        replicas = [self.membership.joined(report.member) for report in self.membership.stagers()]
        begun = max(wanted_since, *replicas) if replicas else self.monotonic()
        return max(0.0, begun + self.settings.staging_timeout_s - self.monotonic())

    def _require_room(self, versions: Sequence[VersionRecord]) -> None:
        rollouts = self.compose_snapshot().rollouts
        needed = {target.version for rollout in rollouts for target in rollout.targets}
        needed |= {version.id for version in (*self.staging.held(), *versions)}
        if len(needed) > self.capacity:
            raise FailedPrecondition(
                f"replicas hold {self.capacity} versions, and {len(needed)} would be needed: what aliases "
                "point at and what is being staged; wait for a staging to end, point aliases at fewer "
                "versions, or raise adapter_slots",
                reason=NO_FREE_SLOT,
                metadata={"slots": str(self.capacity), "needed": str(len(needed))},
            )

    async def _publish_wanted(self) -> None:
        if self.compose_snapshot().wanted != self.hub.snapshot.wanted:
            await self.write(lambda transaction: transaction.change_snapshot())

    async def _publish_unwanted(self) -> None:
        try:
            await self._publish_wanted()
        except Unavailable as error:
            # Replicas keep one version too many until the next change; the caller's own outcome matters more.
            _log.warning("versions_kept_resident", exc_info=error)


def _reasons(replicas: Sequence[MemberReport], wanted: set[str]) -> str:
    if not replicas:
        return "no engine replica is connected; wait until one is ready"
    return "; ".join(f"{report.member}: {_reason(report, wanted)}" for report in replicas)


def _reason(report: MemberReport, wanted: set[str]) -> str:
    failed = sorted(wanted & set(report.failed))
    return "; ".join(report.failed[version] for version in failed) or "not in time"
