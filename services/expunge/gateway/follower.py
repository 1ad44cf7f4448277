"""Follows the registry: the rollouts and guards this gateway serves by, and the lease to do so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from expunge.errors import ExpungeError, Unavailable
from expunge.gateway.guards import BuildGuards, Guards
from expunge.gateway.upstream import WatchUpstream
from expunge.observability.logging import get_logger
from expunge.registry.records import MemberKind, MemberReport, Outcome, Rollout, Snapshot

_log = get_logger()
_POLLS_PER_LEASE = 6  # a poll that fails half way leaves most of the lease for the next one
_RETRY_S = 0.1
_OUTCOMES_PERIOD_S = 0.5  # while a canary runs, failures must be told soon


@dataclass(frozen=True)
class View:
    """One snapshot as requests use it."""

    snapshot: Snapshot
    rollouts: Mapping[str, Rollout]
    guards: Guards


class Timer(Protocol):
    """Something that will be called, unless it is cancelled first."""

    def cancel(self) -> None: ...


CallLater = Callable[[float, Callable[[], None]], Timer]


def lease_expired() -> Unavailable:
    """What every request gets, new or under way, once the lease has run out."""
    return Unavailable(
        "the gateway has lost the registry and its lease has run out; try again, or another gateway",
        reason="LEASE_EXPIRED",
        retry_after_s=1.0,
    )


class Follower:
    """Keeps a `View` of the registry and knows how long it may be believed.

    The lease runs from the moment a successful poll was *sent*: the registry counts this member as live from
    the moment it received that poll, so its lease never ends before ours, and no change is committed behind
    our back.

    Args:
        on_view: called with every new view before its revision is confirmed to the registry.
        on_lease_end: called when the lease runs out: guards may be confirmed without us from then on.
        clock: monotonic seconds.
        call_later: has a function called after some seconds; by default the event loop's.
        outcomes: what to tell of canaries, with every poll.
    """

    def __init__(
        self,
        registry: WatchUpstream,
        member: str,
        *,
        lease_s: float,
        build_guards: BuildGuards,
        on_view: Callable[[View], None],
        on_lease_end: Callable[[], None],
        clock: Callable[[], float],
        call_later: CallLater | None = None,
        outcomes: Callable[[], tuple[Outcome, ...]] = tuple,
    ) -> None:
        self._registry = registry
        self._member = member
        self._lease_s = lease_s
        self._build_guards = build_guards
        self._on_view = on_view
        self._on_lease_end = on_lease_end
        self._clock = clock
        self._call_later = call_later
        self._outcomes = outcomes
        self._lease_end: Timer | None = None
        self._address = ""
        self._view: View | None = None
        self._leased_until = float("-inf")
        self._task: asyncio.Task[None] | None = None

    async def start(self, address: str) -> None:
        """Get the first view, then follow in the background.

        Args:
            address: reported to the registry for others to find this gateway.

        Raises:
            Unavailable: the registry did not answer within one lease.
        """
        self._address = address
        try:
            async with asyncio.timeout(self._lease_s):
                while self._view is None:
                    await self._poll_or_wait()
        except TimeoutError as error:
            raise Unavailable(
                f"the registry did not answer within {self._lease_s} s; is it running?"
            ) from error
        self._task = asyncio.create_task(self._follow(), name="registry-follower")

    async def stop(self) -> None:
        """Stop following and tell the registry, so that nobody waits for this gateway."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait({self._task})
        self._task = None
        self._leased_until = float("-inf")
        self._disarm()
        await self._registry.leave(self._member)

    @property
    def lease_left_s(self) -> float:
        return max(0.0, self._leased_until - self._clock())

    @property
    def is_following(self) -> bool:
        """Whether it polls; false after an error that no retry can mend."""
        return self._task is not None and not self._task.done()

    @property
    def is_leased(self) -> bool:
        return self._view is not None and self.lease_left_s > 0

    def view(self) -> View:
        """The view to serve by.

        Raises:
            Unavailable: it can't be confirmed any more.
        """
        if self._view is None or not self.is_leased:
            raise lease_expired()
        return self._view

    async def _follow(self) -> None:
        while True:
            await self._poll_or_wait()

    async def _poll_or_wait(self) -> None:
        try:
            await self._poll()
        except ExpungeError as error:
            _log.warning("registry_poll_failed", exc_info=error)
            await asyncio.sleep(_RETRY_S)

    async def _poll(self) -> None:
        known = self._view.snapshot.revision if self._view else -1
        report = MemberReport(
            self._member,
            MemberKind.GATEWAY,
            max(known, 0),
            address=self._address,
            outcomes=self._outcomes(),
        )
        sent_at = self._clock()
        has_canary = self._view is not None and any(one.canary for one in self._view.rollouts.values())
        patience_s = self._lease_s / _POLLS_PER_LEASE
        snapshot = await self._registry.watch(
            report, known, min(patience_s, _OUTCOMES_PERIOD_S) if has_canary else patience_s
        )
        if snapshot is not None:
            await self._apply(snapshot)
        self._leased_until = sent_at + self._lease_s
        self._arm()

    def _arm(self) -> None:
        """Be called at the end of the lease as it now is."""
        self._disarm()
        call_later = self._call_later or asyncio.get_running_loop().call_later
        self._lease_end = call_later(self.lease_left_s, self._end_lease)

    def _disarm(self) -> None:
        if self._lease_end is not None:
            self._lease_end.cancel()
            self._lease_end = None

    def _end_lease(self) -> None:
        if self.is_leased:  # the loop's clock ran ahead of ours
            self._arm()
        else:
            self._lease_end = None
            self._on_lease_end()

    async def _apply(self, snapshot: Snapshot) -> None:
        before = self._view
        same_guards = before is not None and before.snapshot.guards == snapshot.guards
        if before and same_guards:
            guards = before.guards
        else:  # of ten thousand facts it takes seconds, in which requests go on
            guards = await asyncio.to_thread(self._build_guards, snapshot.guards)
        view = View(snapshot, {rollout.alias: rollout for rollout in snapshot.rollouts}, guards)
        self._view = view
        self._on_view(view)
