"""Moving the aliases: onto the versions that have forgotten, and back off one that was found to leak."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from expunge.config import Settings
from expunge.erasures.lineage import is_canary
from expunge.errors import BelowFloor, FailedPrecondition, StaleGeneration
from expunge.registry.records import ErasureRecord, ErasureState, Rollout, Target
from expunge.registry.stager import NO_FREE_SLOT
from expunge.registry.versions import VERSION_RETIRED

if TYPE_CHECKING:
    from expunge.erasures.history import Registry

PRINCIPAL = "controller"


@dataclass(frozen=True)
class Flipped:
    """The longest time from a commit to the last replica's and gateway's confirmation, and who was moved."""

    flip_ms: float
    aliases: tuple[str, ...]


@dataclass(frozen=True)
class WentBack:
    """Where the aliases are that served a withdrawn version.

    Attributes:
        moved: alias → the earlier version that it serves again.
        stayed: alias → the withdrawn version that it goes on serving, because no earlier one may be served.
    """

    moved: Mapping[str, str]
    stayed: Mapping[str, str]


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

        All are staged before the first alias moves, so that they move close together. Where the replicas have
        no room for that, one version is staged and flipped after the other: each flip frees a slot.

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
            all_are_staged = await self._stage_all(versions_to_stage)
            for version in versions_to_stage:
                if not all_are_staged:
                    await self._registry.stage(version, self._timeout_s)
                for rollout in pending:
                    if successors[rollout.alias] == version:
                        longest = max(longest, await self._set(record, rollout, version))
        finally:
            for version in versions_to_stage:
                await self._registry.unstage(version)
        return Flipped(longest, tuple(rollout.alias for rollout in pending))

    async def back(self, record: ErasureRecord, withdrawn: frozenset[str]) -> WentBack:
        """Point every alias that serves a withdrawn version at the newest earlier one that may be served.

        That is one that was not withdrawn and meets the floor. Where there is none, or it was retired, the
        alias stays as it is: the guard is on, and training goes on from there.

        Raises:
            FailedPrecondition: no replica could stage the earlier version.
            DeadlineExceeded: staging it took too long.
        """
        moved: dict[str, str] = {}
        stayed: dict[str, str] = {}
        for rollout in await self._registry.list_rollouts():
            if withdrawn.isdisjoint(target.version for target in rollout.targets):
                continue
            version = await self._take_back(record, rollout, withdrawn)
            if version:
                moved[rollout.alias] = version
            else:
                stayed[rollout.alias] = rollout.targets[0].version
        return WentBack(moved, stayed)

    async def _stage_all(self, versions: Sequence[str]) -> bool:
        """Stage all `versions`; False, with none staged, where replicas have no room for all at once."""
        try:
            for version in versions:
                await self._registry.stage(version, self._timeout_s)
        except FailedPrecondition as error:
            if error.reason != NO_FREE_SLOT or len(versions) == 1:
                raise
            for version in versions:
                await self._registry.unstage(version)
            return False
        return True

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

    async def _take_back(self, record: ErasureRecord, rollout: Rollout, withdrawn: frozenset[str]) -> str:
        """The version that the alias was rolled back to; "" where no earlier one may be served."""
        reason = f"erasure {record.id}: version withdrawn after a leak in live verification"
        arguments = (rollout.alias, rollout.generation, reason, PRINCIPAL, self._timeout_s)
        for version in _earlier(await self._registry.rollout_history(rollout.alias), withdrawn):
            try:
                await self._registry.rollback(*arguments, to_version=version)
            except BelowFloor:  # another erasure went live in between: as far back as the floor allows
                continue
            except FailedPrecondition as error:
                if error.reason != VERSION_RETIRED:
                    raise
                return ""  # somebody gave it up; what is older still would undo what it was made for
            return version
        return ""

    def _is_flipped(self, rollout: Rollout, plan: Mapping[str, str], versions: Mapping[str, str]) -> bool:
        if is_canary(rollout):
            raise Rebase(f"alias {rollout.alias} is in a canary by now")
        current = rollout.targets[0].version
        if current == _successor(rollout, plan, versions):
            return True
        if current != plan[rollout.alias]:
            raise Rebase(f"alias {rollout.alias} points at another version than was trained from")
        return False


def _earlier(history: Iterable[Rollout], withdrawn: frozenset[str]) -> tuple[str, ...]:
    """The versions of a history, newest first, without rollouts that a withdrawn version had a part in."""
    rollouts = [one for one in history if withdrawn.isdisjoint(target.version for target in one.targets)]
    heaviest = (max(one.targets, key=lambda target: target.weight).version for one in rollouts)
    return tuple(dict.fromkeys(heaviest))


def _successor(rollout: Rollout, plan: Mapping[str, str], versions: Mapping[str, str]) -> str:
    if rollout.alias not in plan:
        raise Rebase(f"alias {rollout.alias} is new")
    return versions[plan[rollout.alias]]
