"""Moving the aliases: onto the versions that have forgotten, and back off one that was found to leak."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from expunge.config import Settings
from expunge.erasures.lineage import is_canary
from expunge.errors import BelowFloor, StaleGeneration
from expunge.registry.records import ErasureRecord, ErasureState, Rollout, Target

if TYPE_CHECKING:
    from expunge.erasures.history import Registry

PRINCIPAL = "controller"


@dataclass(frozen=True)
class Flipped:
    """The longest time from a commit to the last replica's and gateway's confirmation, and who was moved."""

    flip_ms: float
    aliases: tuple[str, ...]


class Rebase(Exception):
    """What an alias points at is no longer what was trained from; train again from there."""


class Flip:
    """Changes of rollouts on behalf of an erasure."""

    def __init__(self, registry: Registry, settings: Settings) -> None:
        self._registry = registry
        self._timeout_s = 2 * settings.staging_timeout_s

    async def forward(
        self, record: ErasureRecord, plan: Mapping[str, str], versions: Mapping[str, str]
    ) -> Flipped:
        """Stage the new versions everywhere, then point every alias at its own; the last one makes it live.

        Args:
            plan: alias → version that was trained from.
            versions: version that was trained from → its successor that has forgotten.

        Raises:
            Rebase: an alias points elsewhere by now, is split over several versions, or is new; or a
                successor does not meet an erasure that joined the floor meanwhile.
            StaleGeneration: the erasure is not in staging any more.
            FailedPrecondition: no replica could stage.
            DeadlineExceeded: staging took too long.
        """
        rollouts = await self._registry.list_rollouts()
        pending = [rollout for rollout in rollouts if not self._is_flipped(rollout, plan, versions)]
        pending = pending or rollouts[:1]  # all are flipped, but nobody was told that the erasure is live
        successors = {rollout.alias: _successor(rollout, plan, versions) for rollout in pending}
        versions_to_stage = tuple(dict.fromkeys(successors.values()))
        longest = 0.0
        try:
            for version in versions_to_stage:  # all of them first, so that the aliases move close together
                await self._registry.stage(version, self._timeout_s)
            for rollout in pending:
                longest = max(longest, await self._set(record, rollout, successors[rollout.alias]))
        finally:
            for version in versions_to_stage:
                await self._registry.unstage(version)
        return Flipped(longest, tuple(rollout.alias for rollout in pending))

    async def back(self, record: ErasureRecord, withdrawn: frozenset[str]) -> dict[str, str]:
        """Point every alias that serves a withdrawn version at what it served before; alias → that version.

        Raises:
            FailedPrecondition: an alias has no earlier version that meets the floor.
        """
        moved: dict[str, str] = {}
        for rollout in await self._registry.list_rollouts():
            if withdrawn.isdisjoint(target.version for target in rollout.targets):
                continue
            reason = f"erasure {record.id}: version withdrawn after a leak in live verification"
            arguments = (rollout.alias, rollout.generation, reason, PRINCIPAL, self._timeout_s)
            prior = await self._prior(rollout.alias, withdrawn)
            try:
                change = await self._registry.rollback(*arguments, to_version=prior)
            except BelowFloor:  # another erasure went live in between: as far back as the floor allows
                change = await self._registry.rollback(*arguments)
            moved[rollout.alias] = change.rollout.targets[0].version
        return moved

    async def _set(self, record: ErasureRecord, rollout: Rollout, version: str) -> float:
        try:
            change = await self._registry.set_rollout(
                rollout.alias,
                (Target(version),),
                rollout.generation,
                f"erasure {record.id}, round {record.round}",
                PRINCIPAL,
                self._timeout_s,
                erasure_id=record.id,
            )
        except (StaleGeneration, BelowFloor) as error:
            if (await self._registry.get_erasure(record.id)).state is not ErasureState.STAGING:
                raise StaleGeneration(f"erasure {record.id} is no longer in staging") from error
            raise Rebase(error.message) from error
        return change.flip_ms

    async def _prior(self, alias: str, withdrawn: frozenset[str]) -> str:
        for earlier in await self._registry.rollout_history(alias):
            if withdrawn.isdisjoint(target.version for target in earlier.targets):
                return max(earlier.targets, key=lambda target: target.weight).version
        return ""

    def _is_flipped(self, rollout: Rollout, plan: Mapping[str, str], versions: Mapping[str, str]) -> bool:
        if is_canary(rollout):
            raise Rebase(f"alias {rollout.alias} is split over several versions by now")
        current = rollout.targets[0].version
        if current == _successor(rollout, plan, versions):
            return True
        if current != plan[rollout.alias]:
            raise Rebase(f"alias {rollout.alias} points at another version than was trained from")
        return False


def _successor(rollout: Rollout, plan: Mapping[str, str], versions: Mapping[str, str]) -> str:
    if rollout.alias not in plan:
        raise Rebase(f"alias {rollout.alias} is new")
    return versions[plan[rollout.alias]]
