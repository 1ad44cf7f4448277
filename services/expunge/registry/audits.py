"""Audits and verdicts: what was found, and which versions meet which erasures under which policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from expunge.errors import NotFound
from expunge.registry import canary_plans, floor, schema, sealing
from expunge.registry.core import Core
from expunge.registry.records import AuditRecord, Verdict
from expunge.registry.serving_state import current_rollouts
from expunge.registry.transaction import Transaction

LIVE_LEAK = "live_verification"  # the gate failed by a version that told a fact when it was live


class Audits(Core):
    """The part of the registry that holds audits, verdicts and the policy in force."""

    async def put_verdicts(self, verdicts: Sequence[Verdict]) -> None:
        """Store verdicts; one for the same version, erasure and policy replaces the former. Safe to repeat.

        A version that leaked in live verification stays below that erasure, whatever a later audit finds.

        A failed verdict for a version that is being served does not take it out of service: the erasure must
        be reopened for that. It does keep the version from being served after the next start.
        """
        await self.write(lambda transaction: store_verdicts(transaction, verdicts))

    async def list_verdicts(self, version: str = "", erasure_id: str = "") -> list[Verdict]:
        """Verdicts of one version and one erasure (any, when empty), under every policy."""
        table = schema.verdicts
        statement = sa.select(table).order_by(table.c.version, table.c.erasure_id, table.c.policy_digest)
        if version:
            statement = statement.where(table.c.version == version)
        if erasure_id:
            statement = statement.where(table.c.erasure_id == erasure_id)
        return await self.read(
            lambda connection: [
                Verdict(
                    row.version,
                    row.erasure_id,
                    row.policy_digest,
                    row.passed,
                    row.audit_id,
                    tuple(row.failed_gates),
                )
                for row in connection.execute(statement)
            ]
        )

    async def set_policy(self, digest: str) -> None:
        """Put a policy in force: from now on only verdicts under it count. Safe to repeat.

        Raises:
            BelowFloor: what an alias points at has no passed audit under the new policy; audit it first.
        """

        def work(transaction: Transaction) -> None:
            if floor.policy_in_force(transaction.connection) == digest:
                return
            for rollout in current_rollouts(transaction.connection):
                if rollout.alias not in self.refused:
                    floor.require_floor(transaction.connection, rollout.targets, policy=digest)
            transaction.execute(schema.service.update().values(policy_digest=digest))
            transaction.add_event("policy:", "in_force", {"policy_digest": digest})
            transaction.change_snapshot()  # rollback targets depend on it

        await self.write(work)

    async def get_policy(self) -> str:
        """The digest of the policy in force; "" before the first."""
        return await self.read(floor.policy_in_force)

    async def put_audit(
        self, audit_id: str, version: str, erasure_id: str, report: Mapping[str, Any]
    ) -> AuditRecord:
        """Store an audit's report, encrypted. Safe to repeat: an id that exists is left as it is.

        Raises:
            NotFound: no such erasure.
        """
        content = sealing.encode(report)
        return await self.write(
            lambda transaction: self._put_audit(transaction, audit_id, version, erasure_id, content)
        )

    async def get_audit(self, audit_id: str) -> AuditRecord:
        """One audit with its report. Raises NotFound, or DataLoss when it can't be decrypted."""

        def work(connection: Connection) -> AuditRecord:
            table = schema.audits
            row = connection.execute(sa.select(table).where(table.c.id == audit_id)).first()
            if row is None:
                raise NotFound(f"audit {audit_id} does not exist; list the audits to see which do")
            key = self.data_key(connection, row.erasure_id)
            report = sealing.decode(key.open(row.sealed_report, f"{audit_id}:report"))
            return AuditRecord(row.id, row.version, row.erasure_id, row.created_at, report)

        return await self.read(work)

    async def list_audits(self, version: str = "", erasure_id: str = "") -> list[AuditRecord]:
        """Audits of one version and one erasure (any, when empty), oldest first, without their reports."""
        table = schema.audits
        columns = (table.c.id, table.c.version, table.c.erasure_id, table.c.created_at)
        statement = sa.select(*columns).order_by(table.c.created_at, table.c.id)
        if version:
            statement = statement.where(table.c.version == version)
        if erasure_id:
            statement = statement.where(table.c.erasure_id == erasure_id)
        return await self.read(
            lambda connection: [AuditRecord(*row) for row in connection.execute(statement)]
        )

    def _put_audit(
        self, transaction: Transaction, audit_id: str, version: str, erasure_id: str, content: bytes
    ) -> AuditRecord:
        table = schema.audits
        row = transaction.execute(sa.select(table).where(table.c.id == audit_id)).first()
        if row is not None:
            return AuditRecord(row.id, row.version, row.erasure_id, row.created_at)
        key = self.data_key(transaction.connection, erasure_id)
        transaction.execute(
            table.insert().values(
                id=audit_id,
                version=version,
                erasure_id=erasure_id,
                created_at=transaction.now,
                sealed_report=key.seal(content, f"{audit_id}:report"),
            )
        )
        transaction.add_event(f"audit:{audit_id}", "stored", {"version": version, "erasure_id": erasure_id})
        return AuditRecord(audit_id, version, erasure_id, transaction.now)


def store_verdicts(transaction: Transaction, verdicts: Sequence[Verdict]) -> None:
    """Store verdicts as `Audits.put_verdicts` does, in a transaction that may do more."""
    table = schema.verdicts
    for verdict in verdicts:
        pair = (table.c.version == verdict.version) & (table.c.erasure_id == verdict.erasure_id)
        earlier = transaction.execute(sa.select(table.c.failed_gates).where(pair)).scalars()
        if verdict.passed and any(LIVE_LEAK in gates for gates in earlier):
            continue
        transaction.execute(table.delete().where(pair & (table.c.policy_digest == verdict.policy_digest)))
        transaction.execute(
            table.insert().values(
                version=verdict.version,
                erasure_id=verdict.erasure_id,
                policy_digest=verdict.policy_digest,
                passed=verdict.passed,
                audit_id=verdict.audit_id,
                failed_gates=list(verdict.failed_gates),
            )
        )
        transaction.add_event(
            f"audit:{verdict.audit_id}",
            "verdict",
            {
                "version": verdict.version,
                "erasure_id": verdict.erasure_id,
                "passed": verdict.passed,
                "failed_gates": list(verdict.failed_gates),
            },
        )
        if not verdict.passed:
            _warn_of(transaction, verdict)


def _warn_of(transaction: Transaction, verdict: Verdict) -> None:
    """Raise an alarm about a version that leaked live, or failed an erasure on the floor.

    Of an erasure that is still under way nobody expects a version that is served to have forgotten it.
    """
    is_leak = LIVE_LEAK in verdict.failed_gates
    if is_leak or verdict.erasure_id in floor.floor_erasures(transaction.connection):
        found = "leaked in live verification" if is_leak else f"failed audit {verdict.audit_id}"
        reason = f"version {verdict.version} {found} against erasure {verdict.erasure_id}"
        canary_plans.raise_alarm(transaction, verdict.version, reason, "registry")
