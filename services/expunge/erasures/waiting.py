"""Waiting: an erasure shows why it does not go on, and looks again when something happens."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from expunge.auditing.policy import Policy
from expunge.erasures.event_feed import EventFeed
from expunge.erasures.policy_switch import put_policy_in_force
from expunge.errors import DeadlineExceeded, ExpungeError, Unavailable
from expunge.registry.records import ErasureRecord
from expunge.registry.stager import NO_FREE_SLOT

if TYPE_CHECKING:
    from expunge.erasures.history import Registry

_AGAIN_S = 15.0  # a waiting step looks again after so long, also when nothing was heard
_STAGING_MAY_PASS = (
    "VERSION_NOT_STAGED",
    NO_FREE_SLOT,
    DeadlineExceeded.default_reason,
    Unavailable.default_reason,
)


class Waiting:
    """The waits of all erasures.

    Args:
        policy: what is trained will be judged by.
        wall: epoch seconds, to tell whether an erasure is past its due date.
    """

    def __init__(
        self, registry: Registry, feed: EventFeed, policy: Policy, wall: Callable[[], float]
    ) -> None:
        self._registry = registry
        self._feed = feed
        self._policy = policy
        self._wall = wall

    async def say(self, record: ErasureRecord, detail: str) -> None:
        """Show why an erasure waits, unless it says so already."""
        if self._wall() > record.due_at:
            detail = f"past its due date; {detail}"
        if (await self._registry.get_erasure(record.id)).detail != detail:
            await self._registry.advance_erasure(record.id, record.state, record.state, detail=detail)

    async def wait(self, record: ErasureRecord, detail: str, heard: asyncio.Event) -> None:
        """Say why, then wait until something is `heard`, or a while.

        Args:
            heard: from before the attempt that can't go on; what changed during it is not waited for.
        """
        await self.say(record, detail)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_AGAIN_S):
                await heard.wait()

    async def wait_for_replicas(
        self, record: ErasureRecord, error: ExpungeError, heard: asyncio.Event
    ) -> None:
        """Wait where it is only the replicas that are not ready. Raises `error` where it is anything else."""
        if error.reason not in _STAGING_MAY_PASS:
            raise error
        await self.wait(record, f"waits for replicas: {error.message}", heard)

    async def may_train(self, record: ErasureRecord) -> bool:
        """Whether what is trained can be judged under the policy in force; if not, waits a while first."""
        with self._feed.listening("audit:", "policy:", f"erasure:{record.id}") as heard:
            missing = await put_policy_in_force(self._registry, self._policy)
            if missing:
                await self.wait(record, missing, heard)
        return not missing
