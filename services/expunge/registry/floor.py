"""The erasure floor: which erasures every served version must meet, and which versions do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from expunge.errors import BelowFloor, Violation
from expunge.registry import schema
from expunge.registry.records import ErasureState, Target

_ON_FLOOR = tuple(state.value for state in ErasureState if state.is_on_floor)


def floor_erasures(connection: Connection) -> tuple[str, ...]:
    """Ids of the erasures that are live, verified or closed, oldest first."""
    table = schema.erasures
    statement = (
        sa.select(table.c.id).where(table.c.state.in_(_ON_FLOOR)).order_by(table.c.created_at, table.c.id)
    )
    return tuple(connection.execute(statement).scalars())


def policy_in_force(connection: Connection) -> str:
    return str(connection.execute(sa.select(schema.service.c.policy_digest)).scalar_one())


def unmet(
    connection: Connection, version: str, erasures: Sequence[str], policy: str | None = None
) -> tuple[str, ...]:
    """Those of `erasures` that `version` has not been shown to meet under `policy` (the one in force).

    The base version meets none: it has no verdicts, since nothing was ever erased from it.
    """
    if not erasures:
        return ()
    table = schema.verdicts
    statement = sa.select(table.c.erasure_id).where(
        table.c.version == version,
        table.c.policy_digest == (policy_in_force(connection) if policy is None else policy),
        table.c.passed.is_(True),
    )
    met = set(connection.execute(statement).scalars())
    return tuple(erasure for erasure in erasures if erasure not in met)


def require_floor(
    connection: Connection, targets: Iterable[Target], extra: Sequence[str] = (), policy: str | None = None
) -> None:
    """Raise BelowFloor unless every target meets every erasure on the floor, and those in `extra`."""
    erasures = tuple(dict.fromkeys((*floor_erasures(connection), *extra)))
    missing = {target.version: unmet(connection, target.version, erasures, policy) for target in targets}
    missing = {version: ids for version, ids in missing.items() if ids}
    if missing:
        raise below_floor(missing)


def below_floor(missing: dict[str, tuple[str, ...]]) -> BelowFloor:
    """The error for versions and the erasures that each does not meet."""
    ids = tuple(dict.fromkeys(erasure for found in missing.values() for erasure in found))
    return BelowFloor(
        f"version {', '.join(missing)} is below the erasure floor: no passed audit under the policy in force "
        f"against erasure {_listed(ids)}; audit the version against them, or choose one that meets them",
        metadata={"erasures": _listed(ids), "erasure_count": str(len(ids))},
        violations=[
            Violation(version, f"does not meet erasure {_listed(found)}")
            for version, found in missing.items()
        ],
    )


def _listed(ids: Sequence[str], limit: int = 20) -> str:
    shown = ",".join(ids[:limit])
    return shown if len(ids) <= limit else f"{shown} and {len(ids) - limit} more"
