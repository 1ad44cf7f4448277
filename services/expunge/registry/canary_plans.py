"""Canaries in the database: their plans, moved with the rollouts they make, and what gateways counted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from expunge.errors import FailedPrecondition, StaleGeneration
from expunge.registry import schema
from expunge.registry.canary import (
    Advance,
    BackOut,
    CanaryPlan,
    CanarySpec,
    CanaryState,
    StepTally,
    Tally,
)
from expunge.registry.records import Outcome, Target
from expunge.registry.transaction import Transaction

Move = CanarySpec | Advance | BackOut  # begin one; go on; put the alias back


def find_plan(connection: Connection, alias: str) -> CanaryPlan | None:
    """The latest canary of an alias, whatever became of it."""
    table = schema.canaries
    row = connection.execute(sa.select(table).where(table.c.alias == alias)).first()
    return _plan_of(connection, row) if row is not None else None


def list_plans(connection: Connection) -> list[CanaryPlan]:
    """The latest canary of every alias that had one, by alias."""
    rows = connection.execute(sa.select(schema.canaries).order_by(schema.canaries.c.alias)).all()
    return [_plan_of(connection, row) for row in rows]


def running_plan(connection: Connection, alias: str) -> CanaryPlan | None:
    """The canary that runs on an alias."""
    plan = find_plan(connection, alias)
    return plan if plan is not None and plan.state is CanaryState.RUNNING else None


def aliases_that_may_go_back_to(connection: Connection, version: str) -> list[str]:
    """The aliases on which a canary runs that would be put back to `version`."""
    table = schema.canaries
    statement = sa.select(table.c.alias).where(
        table.c.stable == version, table.c.state == CanaryState.RUNNING.value
    )
    return list(connection.execute(statement).scalars())


def require_none_running(connection: Connection, alias: str) -> None:
    """Raise FailedPrecondition when a canary runs on the alias."""
    plan = running_plan(connection, alias)
    if plan is not None:
        raise FailedPrecondition(
            f"a canary of version {plan.version} runs on alias '{alias}', at {plan.weight} %; wait until it "
            "has finished, or end it first: roll back, or set the rollout without a canary",
            reason="CANARY_RUNNING",
            metadata={"alias": alias, "version": plan.version, "weight": str(plan.weight)},
        )


def follow(
    transaction: Transaction,
    alias: str,
    generation: int,
    targets: Sequence[Target],
    move: Move | None,
    reason: str,
    principal: str,
) -> None:
    """Store what a new generation of an alias means to its canary.

    Raises:
        FailedPrecondition: one is to begin, and one runs already.
        StaleGeneration: one is to move, and it has ended or was raised an alarm about.
    """
    if isinstance(move, CanarySpec):
        _begin(transaction, alias, generation, targets, move, reason, principal)
        return
    plan = running_plan(transaction.connection, alias)
    if move is None:
        if plan is not None:
            _end(
                transaction,
                plan,
                CanaryState.ENDED,
                f"ended by a rollout of {principal}: {reason}",
                principal,
            )
        return
    if plan is None or (plan.alarm and isinstance(move, Advance)):
        raise StaleGeneration(
            f"the canary of alias '{alias}' has changed; decide anew", metadata={"alias": alias}
        )
    if isinstance(move, BackOut):
        transaction.execute(_update(alias).values(generation=generation))
        back_to = {"back_to": targets[0].version}
        _end(transaction, plan, CanaryState.ROLLED_BACK, move.why, principal, back_to)
        return
    transaction.execute(
        _update(alias).values(generation=generation, step=move.step, step_began_at=transaction.now)
    )
    data: dict[str, Any] = {
        "version": plan.version,
        "step": move.step + 1,
        "weight": plan.spec.steps[move.step],
    }
    transaction.add_event(f"rollout:{alias}", "canary_step", data, principal)
    transaction.moves_canary = True


def settle(
    transaction: Transaction, plan: CanaryPlan, state: CanaryState, detail: str, principal: str
) -> bool:
    """End a canary without a change of the rollout; False when it has changed since `plan` was read."""
    found = running_plan(transaction.connection, plan.alias)
    if found is None or (found.generation, found.alarm) != (plan.generation, plan.alarm):
        return False
    _end(transaction, plan, state, detail, principal)
    transaction.change_snapshot()  # rollouts in it name the canaries that run
    return True


def raise_alarm(transaction: Transaction, version: str, reason: str, principal: str) -> tuple[str, ...]:
    """Note why every canary of `version` must be put back; returns their aliases."""
    table = schema.canaries
    is_meant = (
        (table.c.version == version) & (table.c.state == CanaryState.RUNNING.value) & (table.c.alarm == "")
    )
    aliases = tuple(transaction.execute(sa.select(table.c.alias).where(is_meant)).scalars())
    for alias in aliases:
        transaction.execute(_update(alias).values(alarm=reason))
        data = {"version": version, "reason": reason}
        transaction.add_event(f"rollout:{alias}", "canary_alarm", data, principal)
        transaction.moves_canary = True
    return aliases


def store_outcomes(transaction: Transaction, member: str, outcomes: Iterable[Outcome]) -> None:
    """Take over what a gateway counted for canaries that run. Counts only rise: older ones are no news."""
    table = schema.canary_outcomes
    for told in outcomes:
        plan = running_plan(transaction.connection, told.alias)
        if (
            plan is None
            or told.generation > plan.generation
            or told.version not in (plan.version, plan.stable)
        ):
            continue
        is_same = (
            (table.c.alias == told.alias)
            & (table.c.generation == told.generation)
            & (table.c.version == told.version)
            & (table.c.member == member)
        )
        known = transaction.execute(sa.select(table.c.requests).where(is_same)).scalar()
        if known is not None and known >= told.requests:
            continue
        counts = {"requests": told.requests, "failures": told.failures}
        key = {"alias": told.alias, "generation": told.generation, "version": told.version, "member": member}
        if known is None:
            transaction.execute(table.insert().values(**key, **counts))
        else:
            transaction.execute(table.update().where(is_same).values(**counts))
        transaction.moves_canary = True


def _begin(
    transaction: Transaction,
    alias: str,
    generation: int,
    targets: Sequence[Target],
    spec: CanarySpec,
    reason: str,
    principal: str,
) -> None:
    require_none_running(transaction.connection, alias)
    version = targets[-1].version
    stable = _earlier_version(transaction.connection, alias, generation)
    for table in (schema.canary_outcomes, schema.canaries):
        transaction.execute(table.delete().where(table.c.alias == alias))
    transaction.execute(
        schema.canaries.insert().values(
            alias=alias,
            version=version,
            stable=stable,
            steps=list(spec.steps),
            step_s=spec.step_s,
            min_requests=spec.min_requests,
            max_error_rate=spec.max_error_rate,
            max_error_increase=spec.max_error_increase,
            state=CanaryState.RUNNING.value,
            step=0,
            first_generation=generation,
            generation=generation,
            began_at=transaction.now,
            step_began_at=transaction.now,
            alarm="",
            detail="",
            reason=reason,
            principal=principal,
        )
    )
    data = {"version": version, "stable": stable, "steps": list(spec.steps), "weight": spec.steps[0]}
    transaction.add_event(f"rollout:{alias}", "canary_began", data, principal)
    transaction.moves_canary = True


def _earlier_version(connection: Connection, alias: str, generation: int) -> str:
    table = schema.rollouts
    statement = sa.select(table.c.targets).where(table.c.alias == alias, table.c.generation == generation - 1)
    return str(connection.execute(statement).scalar_one()[0][0])


def _end(
    transaction: Transaction,
    plan: CanaryPlan,
    state: CanaryState,
    detail: str,
    principal: str,
    data: dict[str, Any] | None = None,
) -> None:
    transaction.execute(_update(plan.alias).values(state=state.value, detail=detail))
    told = plan.now_tally
    found = {
        "version": plan.version,
        "weight": plan.weight,
        "why": detail,
        "requests": told.version.requests,
        "failures": told.version.failures,
        **(data or {}),
    }
    transaction.add_event(f"rollout:{plan.alias}", f"canary_{state.value}", found, principal)
    transaction.moves_canary = True


def _update(alias: str) -> sa.Update:
    return schema.canaries.update().where(schema.canaries.c.alias == alias)


def _plan_of(connection: Connection, row: sa.Row[Any]) -> CanaryPlan:
    return CanaryPlan(
        alias=row.alias,
        version=row.version,
        stable=row.stable,
        spec=CanarySpec(
            tuple(row.steps), row.step_s, row.min_requests, row.max_error_rate, row.max_error_increase
        ),
        state=CanaryState(row.state),
        step=row.step,
        generation=row.generation,
        began_at=row.began_at,
        step_began_at=row.step_began_at,
        alarm=row.alarm,
        detail=row.detail,
        reason=row.reason,
        principal=row.principal,
        tallies=_tallies(connection, row),
    )


def _tallies(connection: Connection, row: sa.Row[Any]) -> dict[int, StepTally]:
    table = schema.canary_outcomes
    statement = sa.select(table).where(table.c.alias == row.alias, table.c.generation >= row.first_generation)
    found: dict[int, StepTally] = {}
    for told in connection.execute(statement):
        tally, one = found.get(told.generation, StepTally()), Tally(told.requests, told.failures)
        is_canary = told.version == row.version
        found[told.generation] = (
            StepTally(tally.version + one, tally.stable)
            if is_canary
            else StepTally(tally.version, tally.stable + one)
        )
    return found
