"""Who follows the registry, and until when it counts: leases of gateways and engine replicas."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from expunge.registry.records import MemberKind, MemberReport, MemberStatus


@dataclass
class _Member:
    report: MemberReport
    last_seen: float  # epoch seconds, to show
    leased_until: float  # monotonic seconds, to judge
    joined: float  # monotonic seconds


@dataclass
class Membership:
    """Live members by name. A member is live until `lease_s` after its last poll.

    Args:
        lease_s: length of a lease, in seconds.
        wall: epoch seconds.
        monotonic: seconds of a clock that never jumps; leases are judged by it.
    """

    lease_s: float
    wall: Callable[[], float]
    monotonic: Callable[[], float]
    unroutable: set[str] = field(default_factory=set)  # engines that missed a staging deadline
    _members: dict[str, _Member] = field(default_factory=dict)
    _joining: Counter[str] = field(default_factory=Counter)  # being stored, not counted as live yet

    def expect(self, member: str, kind: MemberKind, address: str) -> None:
        """Count a member of the registry's previous life as live, with nothing confirmed, for one lease."""
        report = MemberReport(member, kind, revision=0, address=address)
        self.record(report)

    def knows(self, member: str) -> bool:
        """Whether it is live; one whose lease ran out must join anew."""
        found = self._members.get(member)
        return found is not None and found.leased_until > self.monotonic()

    @contextlib.contextmanager
    def joining(self, member: str) -> Iterator[None]:
        """While a new member is being stored: another that joins meanwhile must not remove it again."""
        self._joining[member] += 1
        try:
            yield
        finally:
            self._joining[member] -= 1

    def joined_or_joining(self) -> tuple[str, ...]:
        """Names of the members that hold a lease or are about to."""
        return (*self.live(), *(+self._joining))

    def record(self, report: MemberReport) -> None:
        """Take over what a member reports and renew its lease."""
        now = self.monotonic()
        known = self._members.get(report.member)
        joined = known.joined if known else now
        self._members[report.member] = _Member(report, self.wall(), now + self.lease_s, joined)

    def renew(self, member: str) -> None:
        """Renew a lease because the member was answered: it may rely on that answer for a whole lease."""
        if (found := self._members.get(member)) is not None:
            found.last_seen = self.wall()
            found.leased_until = self.monotonic() + self.lease_s

    def remove(self, member: str) -> None:
        self._members.pop(member, None)
        self.unroutable.discard(member)

    def expire(self) -> tuple[str, ...]:
        """Forget the members whose lease has run out; returns their names."""
        now = self.monotonic()
        gone = tuple(name for name, one in self._members.items() if one.leased_until <= now)
        for name in gone:
            self.remove(name)
        return gone

    def seconds_to_next_expiry(self) -> float:
        """How long until some lease runs out if nobody polls; one lease when there are no members."""
        now = self.monotonic()
        return min((one.leased_until - now for one in self._members.values()), default=self.lease_s)

    def live(self, kind: MemberKind | None = None) -> tuple[str, ...]:
        """Names of the members that hold a lease, of one kind or all."""
        now = self.monotonic()
        return tuple(
            name
            for name, one in self._members.items()
            if one.leased_until > now and kind in (None, one.report.kind)
        )

    def report(self, member: str) -> MemberReport | None:
        found = self._members.get(member)
        return found.report if found else None

    def joined(self, member: str) -> float:
        """Monotonic seconds at which a member joined; now, when it is not known."""
        found = self._members.get(member)
        return found.joined if found else self.monotonic()

    def stagers(self) -> tuple[MemberReport, ...]:
        """Reports of the live engine replicas that are not about to leave."""
        reports = (self._members[name].report for name in self.live(MemberKind.ENGINE))
        return tuple(report for report in reports if not report.leaving)

    def behind(self, members: Iterable[str], revision: int, newest: int) -> tuple[str, ...]:
        """Those of `members` that are live, routable, and have not confirmed `revision`.

        A member that reports more than `newest` follows a database that no longer exists, and has confirmed
        nothing.
        """
        live = set(self.live())
        late = []
        for name in members:
            if name in live and name not in self.unroutable:
                reported = self._members[name].report.revision
                if not revision <= reported <= newest:
                    late.append(name)
        return tuple(late)

    def statuses(self) -> list[MemberStatus]:
        live = set(self.live())
        return [
            MemberStatus(
                member=name,
                kind=one.report.kind,
                revision=one.report.revision,
                staged=one.report.staged,
                failed=dict(one.report.failed),
                address=one.report.address,
                last_seen=one.last_seen,
                routable=name not in self.unroutable,
                leaving=one.report.leaving,
                samples=one.report.samples,
            )
            for name, one in sorted(self._members.items())
            if name in live
        ]
