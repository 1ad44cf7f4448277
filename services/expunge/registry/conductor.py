"""The conductor: carries canaries on, step by step, and puts aliases back."""

from __future__ import annotations

import asyncio

from expunge.errors import BelowFloor, ExpungeError, StaleGeneration
from expunge.observability.logging import get_logger
from expunge.registry import canary_plans
from expunge.registry.canary import (
    CONDUCTOR,
    Advance,
    BackOut,
    CanaryPlan,
    CanaryState,
    Finish,
    Hold,
    decide,
)
from expunge.registry.records import Target
from expunge.registry.rollout_change import Change
from expunge.registry.rollouts import Rollouts, version_before

_RETRY_S = 1.0
_IDLE_S = 3600.0
_log = get_logger()


class Conductor(Rollouts):
    """The part of the registry that makes a canary's steps.

    Everything it knows is in the database, and each move is committed with the rollout it makes, by
    compare-and-set of the alias's generation: whoever is killed between decision and commit decides again.
    Time is `wall`, so that a step goes on while the registry is down.
    """

    _loop: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """See `Core.start`; then go on with the canaries that run."""
        await super().start()
        self._moving: dict[str, asyncio.Task[None]] = {}  # alias → move under way
        self._loop = asyncio.create_task(self._conduct(), name="conductor")

    async def close(self) -> None:
        """See `Core.close`."""
        if self._loop is not None:
            tasks = [self._loop, *self._moving.values()]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        await super().close()

    async def get_canary(self, alias: str) -> CanaryPlan | None:
        """The latest canary of an alias, with what was told of it; None when it had none."""
        return await self.read(lambda connection: canary_plans.find_plan(connection, alias))

    async def list_canaries(self) -> list[CanaryPlan]:
        """The latest canary of every alias that had one, by alias."""
        return await self.read(canary_plans.list_plans)

    async def raise_alarm(self, version: str, reason: str, principal: str) -> tuple[str, ...]:
        """Have every alias put back on which a canary of `version` (id) runs; returns these aliases.

        For gates that are found not met while the version takes over. The alarm is stored, so that it is
        obeyed after a crash, too. Safe to repeat: one that was raised stays as it is.

        Args:
            reason: kept in events and in the history, so free of fact text.
        """
        return await self.write(
            lambda transaction: canary_plans.raise_alarm(transaction, version, reason, principal)
        )

    async def _conduct(self) -> None:
        while True:
            seen = self.hub.canary_changes
            try:
                patience_s = await self._look()
            except Exception as error:  # whatever it is, the other canaries must go on
                _log.error("canaries_not_conducted", exc_info=error)
                patience_s = _RETRY_S
            await self.hub.canaries_changed.wait_until(
                lambda seen=seen: self.hub.canary_changes != seen,  # type: ignore[misc]
                patience_s,
            )

    async def _look(self) -> float:
        """Begin every move that is due; returns the seconds until time alone makes another due."""
        patience_s = _IDLE_S
        for plan in await self.list_canaries():
            if plan.state is not CanaryState.RUNNING or plan.alias in self._moving:
                continue
            decision = decide(plan, self.wall())
            if isinstance(decision, Hold):
                patience_s = min(patience_s, decision.seconds or _IDLE_S)
            else:
                moving = self._move(plan, decision)
                self._moving[plan.alias] = asyncio.create_task(moving, name=f"canary:{plan.alias}")
        return patience_s

    async def _move(self, plan: CanaryPlan, decision: Advance | Finish | BackOut) -> None:
        try:
            if isinstance(decision, Finish):
                await self._finish(plan)
            elif isinstance(decision, Advance):
                await self._advance(plan, decision)
            else:
                await self._back_out(plan, decision)
        except StaleGeneration:
            pass  # somebody was faster; what the plan says now is looked at next
        except ExpungeError as error:
            _log.warning("canary_waits", alias=plan.alias, version=plan.version, exc_info=error)
            await asyncio.sleep(_RETRY_S)
        except Exception as error:
            _log.error("canary_move_failed", alias=plan.alias, version=plan.version, exc_info=error)
            await asyncio.sleep(_RETRY_S)
        finally:
            del self._moving[plan.alias]
            self.hub.publish_canaries()

    async def _finish(self, plan: CanaryPlan) -> None:
        detail = f"holds all of the alias since step {plan.step + 1}"
        await self.write(
            lambda transaction: canary_plans.settle(
                transaction, plan, CanaryState.FINISHED, detail, CONDUCTOR
            )
        )

    async def _advance(self, plan: CanaryPlan, move: Advance) -> None:
        steps = plan.spec.steps
        targets = plan.spec.targets(move.step, plan.version, plan.stable)
        reason = f"canary, step {move.step + 1} of {len(steps)}: {steps[move.step]} %"
        change = Change(plan.alias, targets, plan.generation, reason, CONDUCTOR, canary=move)
        try:
            await self.commit_change(change, self._patience_s)
        except BelowFloor as error:
            await self._back_out(plan, BackOut(error.message))

    async def _back_out(self, plan: CanaryPlan, move: BackOut) -> None:
        version = await self.read(lambda connection: version_before(connection, plan))
        if not version:
            detail = f"{move.why}; no earlier version meets the erasure floor: roll out one that does"
            await self.write(
                lambda transaction: canary_plans.settle(
                    transaction, plan, CanaryState.STUCK, detail, CONDUCTOR
                )
            )
            return
        reason = f"canary of version {plan.version} put back: {move.why}"
        change = Change(plan.alias, (Target(version),), plan.generation, reason, CONDUCTOR, canary=move)
        await self.commit_change(change, self._patience_s)

    @property
    def _patience_s(self) -> float:
        return 2 * self.settings.staging_timeout_s
