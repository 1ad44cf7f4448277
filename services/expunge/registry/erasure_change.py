"""Transitions of an erasure in the database, and what they may not do to the floor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from expunge.errors import FailedPrecondition, NotFound, StaleGeneration
from expunge.facts import ErasureKind
from expunge.registry import floor, schema
from expunge.registry.records import ErasureRecord, ErasureState, Rollout
from expunge.registry.serving_state import current_rollouts
from expunge.registry.transaction import Transaction


def find_erasure(connection: Connection, erasure_id: str) -> sa.Row[Any]:
    """The row of an erasure. Raises NotFound."""
    table = schema.erasures
    row = connection.execute(sa.select(table).where(table.c.id == erasure_id)).first()
    if row is None:
        raise NotFound(f"erasure {erasure_id} does not exist; list the erasures to see which do")
    return row


def erasure_of(row: sa.Row[Any]) -> ErasureRecord:
    return ErasureRecord(
        id=row.id,
        request_id=row.request_id,
        kind=ErasureKind(row.kind),
        state=ErasureState(row.state),
        aliases=tuple(row.aliases),
        fact_count=row.fact_count,
        ground=row.ground,
        due_at=row.due_at,
        created_at=row.created_at,
        updated_at=row.updated_at,
        round=row.round,
        version=row.version,
        detail=row.detail,
    )


def go_live(transaction: Transaction, erasure_id: str, rollouts: Sequence[Rollout], principal: str) -> None:
    """Put an erasure on the floor with the flip under way, unless other aliases still lag behind.

    Args:
        rollouts: of every alias, as this transaction leaves them.

    Raises:
        NotFound: no such erasure.
        StaleGeneration: it is not in staging.
    """
    current = erasure_of(find_erasure(transaction.connection, erasure_id))
    if current.state is not ErasureState.STAGING:
        raise stale_state(current, ErasureState.STAGING)
    lagging = sorted(
        rollout.alias
        for rollout in rollouts
        for target in rollout.targets
        if floor.unmet(transaction.connection, target.version, [erasure_id])
    )
    if lagging:
        data = {"lagging_aliases": lagging}
        transaction.add_event(f"erasure:{erasure_id}", "alias_flipped", data, principal)
        return
    move(transaction, current, ErasureState.LIVE, {}, principal=principal)


def move(
    transaction: Transaction,
    current: ErasureRecord,
    state: ErasureState,
    columns: Mapping[str, Any],
    *,
    data: Mapping[str, Any] | None = None,
    principal: str,
) -> None:
    """Write a transition with its event; snapshots change with it when a guard or the floor does.

    Raises:
        BelowFloor: the erasure would join the floor while an alias does not meet it.
        FailedPrecondition: an erasure on the floor can't be cancelled.
    """
    joins = state.is_on_floor and not current.state.is_on_floor
    if joins:
        for rollout in current_rollouts(transaction.connection):
            floor.require_floor(transaction.connection, rollout.targets, [current.id])
    if current.state.is_on_floor and state is ErasureState.CANCELLED:
        raise FailedPrecondition(
            f"erasure {current.id} is {current.state.value}: it is live and can't be cancelled any more",
            reason="ERASURE_IS_LIVE",
        )
    table = schema.erasures
    transaction.execute(
        table.update()
        .where(table.c.id == current.id)
        .values(state=state.value, updated_at=transaction.now, **columns)
    )
    if state is current.state and not data and not columns:
        return
    details = {key: value for key, value in columns.items() if key in ("version", "round", "detail")}
    transaction.add_event(
        f"erasure:{current.id}",
        "updated" if state is current.state else "state",
        {**(data or {}), "from": current.state.value, "state": state.value, **details},
        principal,
    )
    if state.is_guarded != current.state.is_guarded or state.is_on_floor != current.state.is_on_floor:
        transaction.change_snapshot()


def is_repeat(
    connection: Connection, current: ErasureRecord, expected: ErasureState, state: ErasureState
) -> bool:
    """Whether the latest transition of an erasure is the one from `expected` to `state`."""
    table = schema.events
    statement = (
        sa.select(table.c.data)
        .where(table.c.topic == f"erasure:{current.id}", table.c.kind == "state")
        .order_by(table.c.seq.desc())
        .limit(1)
    )
    latest = connection.execute(statement).scalar()
    return (
        current.state is state
        and latest is not None
        and (latest["from"], latest["state"]) == (expected.value, state.value)
    )


def stale_state(current: ErasureRecord, expected: ErasureState) -> StaleGeneration:
    return StaleGeneration(
        f"erasure {current.id} is {current.state.value}, not {expected.value}; read it again and decide anew",
        reason="STALE_STATE",
        metadata={"erasure": current.id, "state": current.state.value},
    )
