"""What the database says is to be served, and the snapshot that follows from it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from expunge.registry import floor, schema
from expunge.registry.canary import CanaryState
from expunge.registry.records import (
    Guard,
    Rollout,
    Snapshot,
    Target,
    VersionKind,
    VersionRecord,
    VersionState,
)


@dataclass(frozen=True)
class ServingState:
    """The stored part of a snapshot, read in one transaction."""

    revision: int
    base_version: str
    rollouts: tuple[Rollout, ...]
    active: tuple[VersionRecord, ...]  # targets of the rollouts
    rollback_targets: tuple[VersionRecord, ...]  # newest earlier version of each alias that meets the floor
    guards: tuple[Guard, ...]
    floor: tuple[str, ...]


def read_state(connection: Connection, guards: Callable[[Connection], tuple[Guard, ...]]) -> ServingState:
    """Read the state. `guards` decrypts those of the erasures under way."""
    row = connection.execute(sa.select(schema.service)).one()
    rollouts = tuple(current_rollouts(connection))
    active = dict.fromkeys(target.version for rollout in rollouts for target in rollout.targets)
    back = dict.fromkeys(find_rollback(connection, rollout) for rollout in rollouts)
    records = read_versions(connection, [*active, *(version for version in back if version)])
    return ServingState(
        revision=row.revision,
        base_version=row.base_version,
        rollouts=rollouts,
        active=tuple(records[version] for version in active),
        rollback_targets=tuple(records[version] for version in back if version and version not in active),
        guards=guards(connection),
        floor=floor.floor_erasures(connection),
    )


def compose(
    state: ServingState,
    *,
    held: Iterable[VersionRecord],
    refused: Collection[str],
    unroutable: Iterable[str],
    capacity: int,
) -> Snapshot:
    """The snapshot for `state`.

    Args:
        held: versions being staged.
        refused: aliases that must not be served, because they were found below the floor.
        unroutable: engine members that must get no requests.
        capacity: versions a replica can hold. Active and held versions always count; rollback targets take
            the room that is left.
    """
    rollouts = tuple(rollout for rollout in state.rollouts if rollout.alias not in refused)
    active = {target.version for rollout in rollouts for target in rollout.targets}
    wanted = {one.id: one for one in state.active if one.id in active} | {one.id: one for one in held}
    for version in state.rollback_targets:
        if len(wanted) < capacity:
            wanted.setdefault(version.id, version)
    return Snapshot(
        revision=state.revision,
        base_version=state.base_version,
        rollouts=rollouts,
        wanted=tuple(wanted[version] for version in sorted(wanted)),
        guards=state.guards,
        floor=state.floor,
        unroutable=tuple(sorted(unroutable)),
    )


def current_rollouts(connection: Connection) -> list[Rollout]:
    """What every alias points at, by alias."""
    statement = _current().order_by(schema.rollouts.c.alias)
    return [rollout_of(row) for row in connection.execute(statement)]


def current_rollout(connection: Connection, alias: str) -> Rollout | None:
    """What one alias points at; None when it does not exist."""
    row = connection.execute(_current().where(schema.rollouts.c.alias == alias)).first()
    return rollout_of(row) if row is not None else None


def find_rollback(connection: Connection, current: Rollout) -> str:
    """The newest earlier version of an alias that meets the floor and is not retired; "" if there is none."""
    table = schema.rollouts
    statement = (
        sa.select(table.c.targets)
        .where(table.c.alias == current.alias, table.c.generation < current.generation)
        .order_by(table.c.generation.desc())
    )
    erasures = floor.floor_erasures(connection)
    seen = {target.version for target in current.targets}
    for targets in connection.execute(statement).scalars():
        for version, _ in sorted(targets, key=lambda target: -target[1]):
            if version in seen:
                continue
            seen.add(version)
            record = read_versions(connection, [version]).get(version)
            usable = record is not None and record.state is VersionState.READY
            if usable and not floor.unmet(connection, version, erasures):
                return str(version)
    return ""


def read_versions(connection: Connection, ids: Sequence[str]) -> dict[str, VersionRecord]:
    """Version records by id; ids that do not exist are left out."""
    statement = sa.select(schema.versions).where(schema.versions.c.id.in_(list(ids)))
    return {row.id: version_of(row) for row in connection.execute(statement)}


def version_of(row: sa.Row[Any]) -> VersionRecord:
    return VersionRecord(
        id=row.id,
        kind=VersionKind(row.kind),
        name=row.name or "",
        base_digest=row.base_digest,
        rank=row.rank,
        size_bytes=row.size_bytes,
        blob=row.blob,
        parent=row.parent,
        source=row.source,
        state=VersionState(row.state),
        created_at=row.created_at,
    )


def _current() -> sa.Select[Any]:
    """The present row of every alias, with the version of the canary that runs on it."""
    table, aliases, canaries = schema.rollouts, schema.aliases, schema.canaries
    is_running = (canaries.c.alias == table.c.alias) & (canaries.c.state == CanaryState.RUNNING.value)
    is_present = (aliases.c.alias == table.c.alias) & (aliases.c.generation == table.c.generation)
    return (
        sa.select(table, canaries.c.version.label("canary"))
        .join(aliases, is_present)
        .outerjoin(canaries, is_running)
    )


def rollout_of(row: sa.Row[Any]) -> Rollout:
    return Rollout(
        alias=row.alias,
        generation=row.generation,
        targets=tuple(Target(version, weight) for version, weight in row.targets),
        committed_at=row.committed_at,
        reason=row.reason,
        principal=row.principal,
        canary=row._mapping.get("canary") or "",  # no column of the history
    )
