"""Following the registry: the long poll of gateways and engine replicas."""

from __future__ import annotations

from dataclasses import replace

from expunge.errors import Unavailable
from expunge.observability.logging import get_logger
from expunge.registry import canary_plans, schema
from expunge.registry.core import Core
from expunge.registry.records import MemberKind, MemberReport, MemberStatus, Snapshot
from expunge.registry.transaction import Transaction

_log = get_logger()


class Members(Core):
    """The part of the registry that members talk to."""

    async def watch(self, report: MemberReport, known_revision: int, timeout_s: float) -> Snapshot | None:
        """Wait for a snapshot other than `known_revision`; None when there is none within `timeout_s`.

        Also the member's heartbeat, its confirmation of `report.revision`, and its account of what is staged.
        A poll waits for a third of the lease at most, whatever `timeout_s` says; with 0 it only reports. The
        member may count its lease from the moment it gets an answer. Safe to repeat: it reads and reports.

        Raises:
            Unavailable: a member that is new can't be recorded.
        """
        if not self.membership.knows(report.member):
            self.membership.remove(report.member)
            with self.membership.joining(report.member):
                others = self.membership.joined_or_joining()
                await self.write(lambda transaction: _record_join(transaction, report, others))
        self.membership.record(report)
        await self._restore_routing(report)
        self.hub.members_changed.notify()
        await self._take_outcomes(report)
        changed = await self.hub.snapshot_changed.wait_until(
            lambda: self.hub.snapshot.revision != known_revision, min(timeout_s, self.settings.lease_s / 3)
        )
        self.membership.renew(report.member)
        return _for_member(self.hub.snapshot, report.kind) if changed else None

    async def leave(self, member: str) -> None:
        """End a member's lease at once, on a clean shutdown. Safe to repeat."""
        self.membership.remove(member)
        self.hub.members_changed.notify()
        await self.write(lambda transaction: _record_leave(transaction, member))

    async def members(self) -> list[MemberStatus]:
        """The members that hold a lease, by name."""
        self.membership.expire()
        return self.membership.statuses()

    async def _restore_routing(self, report: MemberReport) -> None:
        if report.member not in self.membership.unroutable:
            return
        if {version.id for version in self.hub.snapshot.wanted} <= set(report.staged):
            self.membership.unroutable.discard(report.member)

            def restore(transaction: Transaction) -> None:
                transaction.change_snapshot()
                transaction.add_event(f"member:{report.member}", "routable")

            await self.write(restore)

    async def _take_outcomes(self, report: MemberReport) -> None:
        """Store what a gateway has counted for canaries, where it says something new."""
        if not report.outcomes or self._told.get(report.member) == report.outcomes:
            return
        try:
            await self.write(
                lambda transaction: canary_plans.store_outcomes(transaction, report.member, report.outcomes)
            )
        except Unavailable as error:  # no reason to end its lease: the next report holds them, too
            _log.warning("outcomes_not_stored", exc_info=error)
            return
        self._told = {member: told for member, told in self._told.items() if self.membership.knows(member)}
        self._told[report.member] = report.outcomes


def _for_member(snapshot: Snapshot, kind: MemberKind) -> Snapshot:
    """What a member of that kind needs to know: guards hold personal data, and only gateways match them."""
    return snapshot if kind is MemberKind.GATEWAY else replace(snapshot, guards=())


def _record_join(transaction: Transaction, report: MemberReport, others: tuple[str, ...]) -> None:
    table = schema.members
    transaction.execute(
        table.delete().where(table.c.member.not_in(others) | (table.c.member == report.member))
    )
    transaction.execute(
        table.insert().values(member=report.member, kind=report.kind.value, address=report.address)
    )
    transaction.add_event(f"member:{report.member}", "joined", {"kind": report.kind.value})


def _record_leave(transaction: Transaction, member: str) -> None:
    table = schema.members
    if transaction.execute(table.delete().where(table.c.member == member)).rowcount:
        transaction.add_event(f"member:{member}", "left")
