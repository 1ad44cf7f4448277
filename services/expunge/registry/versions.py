"""Versions: immutable records, found by id or name, retired when no alias needs them."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from expunge.errors import AlreadyExists, FailedPrecondition, InvalidRequest, NotFound
from expunge.registry import canary_plans, floor, schema
from expunge.registry.core import Core
from expunge.registry.records import Target, VersionKind, VersionRecord, VersionState
from expunge.registry.serving_state import current_rollouts, version_of
from expunge.registry.transaction import Transaction

VERSION_RETIRED = "VERSION_RETIRED"  # why a version was refused: it is out of use


class Versions(Core):
    """The part of the registry that knows versions."""

    async def ensure_base(self, record: VersionRecord) -> None:
        """Make the base version known and, when the default alias does not exist, point it there.

        For the start of the service; safe to repeat. The alias begins at generation 1.

        Raises:
            InvalidRequest: not a base version.
            FailedPrecondition: the database belongs to another base model.
            BelowFloor: the alias does not exist, but erasures are on the floor, which the base never meets.
        """
        if record.kind is not VersionKind.BASE:
            raise InvalidRequest.of("record.kind", f"version {record.id} is an adapter, not a base version")
        await self.write(lambda transaction: self._ensure_base(transaction, record))

    async def put_version(self, record: VersionRecord) -> VersionRecord:
        """Store a version and return it; a version that exists already is returned as it is stored.

        Safe to repeat: the id names the contents.

        Raises:
            AlreadyExists: another version has that name.
        """
        return await self.write(lambda transaction: _put_version(transaction, record))

    async def get_version(self, id_or_name: str) -> VersionRecord:
        """The version of that id, else of that name. Raises NotFound."""
        return await self.read(lambda connection: find_version(connection, id_or_name))

    async def list_versions(self, include_retired: bool = False) -> list[VersionRecord]:
        """All versions, oldest first."""
        table = schema.versions
        statement = sa.select(table).order_by(table.c.created_at, table.c.id)
        if not include_retired:
            statement = statement.where(table.c.state == VersionState.READY.value)
        return await self.read(lambda connection: [version_of(row) for row in connection.execute(statement)])

    async def retire_version(self, id_or_name: str, principal: str) -> VersionRecord:
        """Take a version out of use for good; its record and name stay. Safe to repeat.

        Raises:
            NotFound: no such version.
            FailedPrecondition: an alias points at it, it is being staged, or it is the base version.
        """
        held = {version.id for version in self.staging.held()}
        return await self.write(lambda transaction: self._retire(transaction, id_or_name, principal, held))

    def _ensure_base(self, transaction: Transaction, record: VersionRecord) -> None:
        stored = transaction.execute(sa.select(schema.service.c.base_version)).scalar_one()
        if stored not in ("", record.id):
            raise FailedPrecondition(
                f"the database belongs to base model {stored}, but {record.id} is to be served; "
                "choose another state folder, or the former model",
                reason="OTHER_BASE_MODEL",
            )
        if not stored:
            _put_version(transaction, record)
            transaction.execute(schema.service.update().values(base_version=record.id))
            transaction.change_snapshot()
        alias = self.settings.default_alias
        known = sa.select(schema.aliases.c.alias).where(schema.aliases.c.alias == alias)
        if transaction.execute(known).first() is None:
            floor.require_floor(transaction.connection, [Target(record.id)])
            transaction.execute(schema.aliases.insert().values(alias=alias, generation=1))
            transaction.execute(
                schema.rollouts.insert().values(
                    alias=alias,
                    generation=1,
                    targets=[[record.id, 100]],
                    committed_at=transaction.now,
                    reason="first start",
                    principal="registry",
                )
            )
            transaction.add_event(
                f"rollout:{alias}", "changed", {"generation": 1, "targets": [[record.id, 100]]}
            )
            transaction.change_snapshot()

    def _retire(
        self, transaction: Transaction, id_or_name: str, principal: str, held: Set[str]
    ) -> VersionRecord:
        record = find_version(transaction.connection, id_or_name)
        if record.state is VersionState.RETIRED:
            return record
        if record.kind is VersionKind.BASE:
            raise FailedPrecondition(f"version {record.id} is the base version, which is never retired")
        users = [
            rollout.alias
            for rollout in current_rollouts(transaction.connection)
            if any(target.version == record.id for target in rollout.targets)
        ]
        users += canary_plans.aliases_that_may_go_back_to(transaction.connection, record.id)
        if users or record.id in held:
            raise FailedPrecondition(
                f"version {record.id} is in use by {', '.join(sorted(set(users))) or 'a staging under way'}; "
                "roll out another version first",
                reason="VERSION_IN_USE",
            )
        table = schema.versions
        transaction.execute(
            table.update().where(table.c.id == record.id).values(state=VersionState.RETIRED.value)
        )
        transaction.add_event(f"adapter:{record.id}", "retired", principal=principal)
        transaction.change_snapshot()  # it may have been a rollback target
        return replace(record, state=VersionState.RETIRED)


def retired(version: str) -> FailedPrecondition:
    """The error for using a version that is out of use."""
    return FailedPrecondition(f"version {version} is retired; choose another", reason=VERSION_RETIRED)


def find_version(connection: Connection, id_or_name: str) -> VersionRecord:
    """The version of that id, else of that name. Raises NotFound."""
    table = schema.versions
    for column in (table.c.id, table.c.name):
        row = connection.execute(sa.select(table).where(column == id_or_name)).first()
        if row is not None:
            return version_of(row)
    raise NotFound(f"no version has the id or name '{id_or_name}'; list the adapters to see what exists")


def _put_version(transaction: Transaction, record: VersionRecord) -> VersionRecord:
    table = schema.versions
    row = transaction.execute(sa.select(table).where(table.c.id == record.id)).first()
    if row is not None:
        return version_of(row)
    if record.name:
        other = transaction.execute(sa.select(table.c.id).where(table.c.name == record.name)).scalar()
        if other is not None:
            raise AlreadyExists(
                f"the name '{record.name}' belongs to version {other}; a version never changes, "
                "choose another name",
                metadata={"version": other, "name": record.name},
            )
    stored = replace(record, state=VersionState.READY, created_at=record.created_at or transaction.now)
    transaction.execute(
        table.insert().values(
            id=stored.id,
            kind=stored.kind.value,
            name=stored.name or None,
            base_digest=stored.base_digest,
            rank=stored.rank,
            size_bytes=stored.size_bytes,
            blob=stored.blob,
            parent=stored.parent,
            source=stored.source,
            state=stored.state.value,
            created_at=stored.created_at,
        )
    )
    transaction.add_event(f"adapter:{stored.id}", "stored", {"name": stored.name, "source": stored.source})
    return stored
