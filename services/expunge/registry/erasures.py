"""Erasures: accepted with their facts encrypted, moved by compare-and-set."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from expunge.errors import AlreadyExists, DeadlineExceeded
from expunge.facts import ForgetRequest
from expunge.registry import schema, sealing
from expunge.registry.audits import store_verdicts
from expunge.registry.core import Core
from expunge.registry.erasure_change import erasure_of, find_erasure, is_repeat, move, stale_state
from expunge.registry.guards import open_request
from expunge.registry.records import ErasureRecord, ErasureState, MemberKind, Verdict
from expunge.registry.transaction import Transaction

_DAY_S = 86400.0


class Erasures(Core):
    """The part of the registry that holds erasures."""

    async def create_erasure(
        self, request: ForgetRequest, aliases: Sequence[str], principal: str
    ) -> ErasureRecord:
        """Accept a validated request: facts encrypted and stored, guard published, state `accepted`.

        Safe to repeat: a request id that is known with the same contents returns the stored erasure.

        Raises:
            AlreadyExists: the request id is known with other contents.
        """
        content = sealing.encode_request(request)
        listed = ",".join(sorted(aliases)).encode()
        mac = self.vault.mac(content + b"\0" + listed)
        return await self.write(
            lambda transaction: self._create(transaction, request, content, mac, aliases, principal)
        )

    async def get_erasure(self, erasure_id: str, with_request: bool = False) -> ErasureRecord:
        """One erasure, with its plain facts if asked for.

        Raises:
            NotFound: no such erasure.
            DataLoss: its facts can't be decrypted.
        """

        def work(connection: Connection) -> ErasureRecord:
            row = find_erasure(connection, erasure_id)
            record = erasure_of(row)
            if not with_request:
                return record
            request = open_request(self.vault, erasure_id, row.wrapped_key, row.sealed)
            return replace(record, request=request)

        return await self.read(work)

    async def list_erasures(self, states: Iterable[ErasureState] = ()) -> list[ErasureRecord]:
        """Erasures in one of `states` (any, when empty), oldest first; without their facts."""
        table = schema.erasures
        statement = sa.select(table).order_by(table.c.created_at, table.c.id)
        if wanted := [state.value for state in states]:
            statement = statement.where(table.c.state.in_(wanted))
        return await self.read(lambda connection: [erasure_of(row) for row in connection.execute(statement)])

    async def advance_erasure(
        self,
        erasure_id: str,
        expected_state: ErasureState,
        state: ErasureState,
        *,
        detail: str = "",
        version: str = "",
        round: int | None = None,
        data: Mapping[str, Any] | None = None,
        verdicts: Sequence[Verdict] = (),
        principal: str = "controller",
    ) -> ErasureRecord:
        """Move an erasure from `expected_state` to `state`, with an event; `state` may be the same one.

        Safe to repeat: when the latest transition is this very one, the erasure is returned as it is.

        Args:
            detail: replaces the former one; free of fact text.
            version, round: replace the former ones where given.
            data: further facts for the event; free of fact text.
            verdicts: stored in the same transaction, so that no crash falls between a leak that was found
                and the erasure's way off the floor.

        Raises:
            NotFound: no such erasure.
            StaleGeneration: it is in another state.
            BelowFloor: it would join the floor while an alias does not meet it.
            FailedPrecondition: it is live and can't be cancelled.
        """
        columns: dict[str, Any] = {"detail": detail}
        if version:
            columns["version"] = version
        if round is not None:
            columns["round"] = round

        def work(transaction: Transaction) -> ErasureRecord:
            current = erasure_of(find_erasure(transaction.connection, erasure_id))
            if current.state is not expected_state:
                if is_repeat(transaction.connection, current, expected_state, state):
                    return current
                raise stale_state(current, expected_state)
            changed = {key: value for key, value in columns.items() if getattr(current, key) != value}
            store_verdicts(transaction, verdicts)
            move(transaction, current, state, changed, data=data, principal=principal)
            return erasure_of(find_erasure(transaction.connection, erasure_id))

        return await self.write(work)

    async def await_guard(self, erasure_id: str, timeout_s: float) -> float:
        """Wait until every gateway with a lease has confirmed the erasure's guard.

        Returns:
            Seconds from acceptance to the last confirmation. Later calls return the same figure.

        Raises:
            NotFound: no such erasure.
            DeadlineExceeded: some gateway has not confirmed within `timeout_s`; names it.
        """
        row = await self.read(lambda connection: find_erasure(connection, erasure_id))
        if row.suppressed_at is not None:
            return float(row.suppressed_at - row.created_at)

        def late() -> tuple[str, ...]:
            gateways = self.membership.live(MemberKind.GATEWAY)
            return self.membership.behind(gateways, row.guard_revision, self.hub.snapshot.revision)

        if not await self.wait_for_members(lambda: not late(), timeout_s):
            raise DeadlineExceeded(
                f"gateway {', '.join(late())} has not confirmed the guard of erasure {erasure_id} within "
                f"{timeout_s:g} s; it confirms or loses its lease soon, try again"
            )
        confirmed_at = self.wall()
        return await self.write(lambda transaction: _confirm_guard(transaction, erasure_id, confirmed_at))

    def _create(
        self,
        transaction: Transaction,
        request: ForgetRequest,
        content: bytes,
        mac: str,
        aliases: Sequence[str],
        principal: str,
    ) -> ErasureRecord:
        table = schema.erasures
        known = sa.select(table).where(table.c.request_id == request.request_id)
        row = transaction.execute(known).first()
        if row is not None:
            if row.content_mac == mac:
                return erasure_of(row)
            raise AlreadyExists(
                f"request id '{request.request_id}' belongs to erasure {row.id} with other contents; "
                "send the same contents, or a new request id",
                metadata={"erasure": row.id},
            )
        erasure_id = f"er-{secrets.token_hex(8)}"
        key, wrapped = self.vault.new_key(erasure_id)
        transaction.execute(
            table.insert().values(
                id=erasure_id,
                request_id=request.request_id,
                content_mac=mac,
                kind=request.kind.value,
                state=ErasureState.ACCEPTED.value,
                aliases=list(aliases),
                fact_count=len(request.facts),
                ground=request.ground,
                due_at=request.due_at or transaction.now + self.settings.erasure_days * _DAY_S,
                created_at=transaction.now,
                updated_at=transaction.now,
                round=1,
                version="",
                detail="",
                guard_revision=transaction.change_snapshot(),
                wrapped_key=wrapped,
                sealed=key.seal(content, f"{erasure_id}:request"),
            )
        )
        transaction.add_event(
            f"erasure:{erasure_id}",
            "accepted",
            {"state": ErasureState.ACCEPTED.value, "kind": request.kind.value, "facts": len(request.facts)},
            principal,
        )
        return erasure_of(find_erasure(transaction.connection, erasure_id))


def _confirm_guard(transaction: Transaction, erasure_id: str, confirmed_at: float) -> float:
    row = find_erasure(transaction.connection, erasure_id)
    if row.suppressed_at is not None:
        return float(row.suppressed_at - row.created_at)
    seconds = max(0.0, confirmed_at - float(row.created_at))
    table = schema.erasures
    transaction.execute(
        table.update().where(table.c.id == erasure_id).values(suppressed_at=row.created_at + seconds)
    )
    transaction.add_event(f"erasure:{erasure_id}", "guard_confirmed", {"seconds": round(seconds, 4)})
    return seconds
