"""Rollouts: staging on every replica, one compare-and-set, and everybody's confirmation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from expunge.errors import FailedPrecondition, NotFound
from expunge.registry import canary_plans, floor, schema
from expunge.registry.canary import CanaryPlan, CanarySpec
from expunge.registry.records import Rollout, RolloutChange, Target, VersionRecord, VersionState
from expunge.registry.rollout_change import Change, begin_canary, commit, find_rollout, validate
from expunge.registry.serving_state import current_rollouts, find_rollback, read_versions, rollout_of
from expunge.registry.stager import Stager
from expunge.registry.transaction import Transaction
from expunge.registry.versions import find_version


class Rollouts(Stager):
    """The part of the registry that moves aliases."""

    async def set_rollout(
        self,
        alias: str,
        targets: Sequence[Target],
        expected_generation: int,
        reason: str,
        principal: str,
        timeout_s: float,
        erasure_id: str = "",
        canary: CanarySpec | None = None,
    ) -> RolloutChange:
        """Point `alias` at `targets` once every replica has staged them, and wait until everybody knows.

        An alias that does not exist is created with `expected_generation` 0. A replica that has not staged
        within `settings.staging_timeout_s` leaves routing and is no longer waited for. With `erasure_id` the
        targets must meet that erasure too, and it goes from staging to live, so onto the floor, in the same
        transaction; with several aliases, in the transaction that moves the last of them.

        With `canary`, `targets` is one version that takes the alias over step by step: this call makes the
        first step, `Conductor` the others. Without it, a canary that runs on the alias ends.

        Safe to repeat: a call whose change is already the current rollout returns it.

        Args:
            timeout_s: limit for staging; confirmation takes at most another lease.

        Raises:
            InvalidRequest: no targets, a bad weight, or one version twice.
            NotFound: no such alias, version or erasure.
            BelowFloor: a target does not meet the erasure floor; names the erasures.
            FailedPrecondition: retired version, no room on the replicas, or no replica could stage; for a
                canary also that one runs already, or that the alias does not point at one other version.
            StaleGeneration: the alias, or the erasure, has moved on.
            DeadlineExceeded: `timeout_s` passed while staging; nothing changed.
        """
        change = Change(alias, tuple(targets), expected_generation, reason, principal, erasure_id)
        if canary is not None:
            begun = partial(begin_canary, change=change, spec=canary)
            change = await self.read(begun)
        return await self._confirm(*await self.commit_change(change, timeout_s))

    async def commit_change(self, change: Change, timeout_s: float) -> tuple[Rollout, Transaction]:
        """Stage and commit, and leave the confirmation to the caller; raises as `set_rollout`."""
        records = await self.read(lambda connection: validate(connection, change))
        async with self.holding(records):
            late = await self.stage_everywhere([record.id for record in records], timeout_s)
            rollout, transaction = await self.write(lambda transaction: _commit(transaction, change, late))
            for record in records:
                self.staging.unpin(record.id)  # from here on the rollout keeps it resident
        return rollout, transaction

    async def rollback(
        self,
        alias: str,
        expected_generation: int,
        reason: str,
        principal: str,
        timeout_s: float,
        to_version: str = "",
    ) -> RolloutChange:
        """Point `alias` at an earlier version: `to_version` (id or name), else the newest that may.

        While a canary runs that is the version before it, which still has a part of the alias.

        Safe to repeat, and raises, like `set_rollout`; moreover:

        Raises:
            FailedPrecondition: no earlier version meets the floor.
        """

        def plan(connection: Connection) -> str:
            current = find_rollout(connection, alias)
            if to_version:
                return find_version(connection, to_version).id
            repeated = Change(alias, current.targets, expected_generation, reason, principal)
            if repeated.is_done_by(current):
                return current.targets[0].version
            canary = canary_plans.running_plan(connection, alias)
            found = version_before(connection, canary) if canary else find_rollback(connection, current)
            if not found:
                raise FailedPrecondition(
                    f"alias '{alias}' has no earlier version that meets the erasure floor; "
                    "roll out a version that does",
                    reason="NO_ROLLBACK_TARGET",
                )
            return found

        target = Target(await self.read(plan))
        return await self.set_rollout(alias, (target,), expected_generation, reason, principal, timeout_s)

    async def get_rollout(self, alias: str) -> Rollout:
        """What `alias` points at. Raises NotFound."""
        return await self.read(lambda connection: find_rollout(connection, alias))

    async def list_rollouts(self) -> list[Rollout]:
        """What every alias points at, by alias."""
        return await self.read(current_rollouts)

    async def rollout_history(self, alias: str) -> list[Rollout]:
        """Every rollout that `alias` has had, newest first. Raises NotFound."""
        table = schema.rollouts
        statement = sa.select(table).where(table.c.alias == alias).order_by(table.c.generation.desc())
        found = await self.read(lambda connection: [rollout_of(row) for row in connection.execute(statement)])
        if not found:
            raise NotFound(f"alias '{alias}' does not exist")
        return found

    async def unmet(self, version: str) -> tuple[str, ...]:
        """The erasures on the floor that `version` does not meet under the policy in force."""
        return await self.read(
            lambda connection: floor.unmet(connection, version, floor.floor_erasures(connection))
        )

    async def stage(self, version: str, timeout_s: float) -> tuple[str, ...]:
        """Have `version` (id or name) resident on every replica, without any rollout; returns who holds it.

        It stays wanted until a rollout uses it, `unstage`, or a restart of the registry. Safe to repeat.

        Raises:
            NotFound: no such version.
            FailedPrecondition: retired, no room on the replicas, or no replica could stage it.
            DeadlineExceeded: `timeout_s` passed first; it stays wanted, so call again.
        """
        record: VersionRecord = await self.read(lambda connection: find_version(connection, version))
        await self.pin(record)
        try:
            late = await self.stage_everywhere([record.id], timeout_s)
        except FailedPrecondition:
            await self.unpin(record.id)  # so that the next call makes replicas try again
            raise
        return tuple(report.member for report in self.membership.stagers() if report.member not in late)

    async def unstage(self, version: str) -> None:
        """Take back `stage` for a version id; rollouts that use it keep it resident. Safe to repeat."""
        await self.unpin(version)

    async def _confirm(self, rollout: Rollout, transaction: Transaction) -> RolloutChange:
        expected = self.membership.live()
        revision = transaction.revision or self.hub.snapshot.revision

        def late() -> tuple[str, ...]:
            return self.membership.behind(expected, revision, self.hub.snapshot.revision)

        # Members that do not confirm lose their lease, so this ends; the bound is for a stopped clock.
        await self.wait_for_members(lambda: not late(), 3 * self.settings.lease_s)
        flip_s = self.monotonic() - transaction.committed_at
        if not transaction.revision:  # a repeated call: its change was committed earlier
            flip_s = self.wall() - rollout.committed_at
        live = set(self.membership.live()) - set(late())
        return RolloutChange(
            rollout=rollout,
            committed_at=rollout.committed_at,
            confirmed_at=self.wall(),
            flip_ms=max(0.0, flip_s) * 1000,
            unconfirmed=tuple(name for name in expected if name not in live),
        )


def _commit(transaction: Transaction, change: Change, late: tuple[str, ...]) -> tuple[Rollout, Transaction]:
    rollout = commit(transaction, change)
    for member in late:
        transaction.add_event(f"member:{member}", "unroutable", {"alias": change.alias})
    if transaction.revision:
        transaction.unroutable.update(late)
    return rollout, transaction


def version_before(connection: Connection, plan: CanaryPlan) -> str:
    """What to put the alias back to: the version before the canary, else the newest that meets the floor."""
    stable = read_versions(connection, [plan.stable]).get(plan.stable)
    erasures = floor.floor_erasures(connection)
    is_usable = stable is not None and stable.state is VersionState.READY
    if is_usable and not floor.unmet(connection, plan.stable, erasures):
        return plan.stable
    return find_rollback(connection, find_rollout(connection, plan.alias))
