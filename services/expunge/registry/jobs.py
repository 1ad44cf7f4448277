"""Jobs: what workers are to do, with their specs, results and errors encrypted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from expunge.errors import FailedPrecondition, NotFound, StaleGeneration
from expunge.registry import schema, sealing
from expunge.registry.core import Core
from expunge.registry.records import JobKind, JobRecord, JobState
from expunge.registry.transaction import Transaction


class Jobs(Core):
    """The part of the registry that holds jobs."""

    async def create_job(self, job: JobRecord) -> JobRecord:
        """Store a job and return it. Safe to repeat: an id that exists returns the stored job as it is.

        Raises:
            NotFound: the erasure it belongs to does not exist.
        """
        return await self.write(lambda transaction: self._create_job(transaction, job))

    async def get_job(self, job_id: str, with_payload: bool = False) -> JobRecord:
        """One job, with its spec and result if asked for.

        Raises:
            NotFound: no such job.
            DataLoss: its payload can't be decrypted.
        """
        return await self.read(
            lambda connection: self._job_of(connection, _find_job(connection, job_id), with_payload)
        )

    async def list_jobs(
        self, states: Iterable[JobState] = (), kinds: Iterable[JobKind] = ()
    ) -> list[JobRecord]:
        """Jobs in one of `states` and of one of `kinds` (any, when empty), oldest first, without payloads."""
        table = schema.jobs
        statement = sa.select(table).order_by(table.c.created_at, table.c.id)
        if wanted := [state.value for state in states]:
            statement = statement.where(table.c.state.in_(wanted))
        if wanted := [kind.value for kind in kinds]:
            statement = statement.where(table.c.kind.in_(wanted))

        def work(connection: Connection) -> list[JobRecord]:
            rows = connection.execute(statement).all()
            return [self._job_of(connection, row, with_payload=False) for row in rows]

        return await self.read(work)

    async def update_job(
        self,
        job_id: str,
        *,
        state: JobState | None = None,
        worker: str | None = None,
        attempt: int | None = None,
        progress: Mapping[str, Any] | None = None,
        result: Mapping[str, Any] | None = None,
        error: str | None = None,
        expected_state: JobState | None = None,
        expected_attempt: int | None = None,
    ) -> JobRecord:
        """Change what is given of a job, with an event; returns it without payload.

        Safe to repeat: values are set, never added to, and with `expected_state` a job that already has every
        value of the call is returned as it is.

        Args:
            progress: small figures for operators, kept in plain; free of fact text.
            result, error: encrypted; may hold fact text.
            expected_state: the change is made only in this state.
            expected_attempt: the change is made only while this attempt is the current one, so that a worker
                whose job was given to another one can't speak for it any more.

        Raises:
            NotFound: no such job.
            StaleGeneration: the job is not in `expected_state`, or in another attempt.
            FailedPrecondition: the job is finished (a worker learns from it that its job was cancelled); with
                `expected_state` naming its final state it can be queued again.
        """
        columns = {
            key: value
            for key, value in (
                ("state", state.value if state is not None else None),
                ("worker", worker),
                ("attempt", attempt),
                ("progress", dict(progress) if progress is not None else None),
            )
            if value is not None
        }
        payload = {
            "sealed_result": sealing.encode(result) if result is not None else None,
            "sealed_error": error.encode() if error is not None else None,
        }
        return await self.write(
            lambda transaction: self._update_job(
                transaction, job_id, columns, payload, expected_state, expected_attempt
            )
        )

    def _create_job(self, transaction: Transaction, job: JobRecord) -> JobRecord:
        table = schema.jobs
        connection = transaction.connection
        row = transaction.execute(sa.select(table).where(table.c.id == job.id)).first()
        if row is not None:
            return self._job_of(connection, row, with_payload=False)
        key = self.data_key(connection, job.erasure_id)
        transaction.execute(
            table.insert().values(
                id=job.id,
                kind=job.kind.value,
                state=job.state.value,
                erasure_id=job.erasure_id,
                worker=job.worker,
                attempt=job.attempt,
                created_at=transaction.now,
                updated_at=transaction.now,
                progress=dict(job.progress),
                sealed_error=key.seal(job.error.encode(), f"{job.id}:sealed_error") if job.error else None,
                sealed_spec=key.seal(sealing.encode(job.spec or {}), f"{job.id}:sealed_spec"),
                sealed_result=(
                    key.seal(sealing.encode(job.result), f"{job.id}:sealed_result")
                    if job.result is not None
                    else None
                ),
            )
        )
        transaction.add_event(
            f"job:{job.id}",
            "created",
            {"state": job.state.value, "kind": job.kind.value, "erasure_id": job.erasure_id},
        )
        return self._job_of(connection, _find_job(connection, job.id), with_payload=False)

    def _update_job(
        self,
        transaction: Transaction,
        job_id: str,
        columns: Mapping[str, Any],
        payload: Mapping[str, bytes | None],
        expected: JobState | None,
        expected_attempt: int | None,
    ) -> JobRecord:
        connection = transaction.connection
        row = _find_job(connection, job_id)
        current = JobState(row.state)
        changed = {key: value for key, value in columns.items() if getattr(row, key) != value}
        key = self.data_key(connection, row.erasure_id)
        for column, plain in payload.items():
            if plain is None:
                continue
            stored = getattr(row, column)
            if stored is None or key.open(stored, f"{job_id}:{column}") != plain:
                changed[column] = key.seal(plain, f"{job_id}:{column}")
        if not changed:
            return self._job_of(connection, row, with_payload=False)
        _require_change_allowed(job_id, current, expected)
        _require_attempt(job_id, row.attempt, expected_attempt)
        table = schema.jobs
        transaction.execute(
            table.update().where(table.c.id == job_id).values(updated_at=transaction.now, **changed)
        )
        data = {name: value for name, value in changed.items() if not name.startswith("sealed_")}
        kind = "state" if "state" in changed else "progress"
        transaction.add_event(f"job:{job_id}", kind, {"state": current.value, **data})
        return self._job_of(connection, _find_job(connection, job_id), with_payload=False)

    def _job_of(self, connection: Connection, row: sa.Row[Any], with_payload: bool) -> JobRecord:
        key = self.data_key(connection, row.erasure_id) if with_payload or row.sealed_error else None

        def opened(column: str) -> bytes | None:
            sealed = getattr(row, column)
            return key.open(sealed, f"{row.id}:{column}") if key and sealed is not None else None

        spec = opened("sealed_spec") if with_payload else None
        result = opened("sealed_result") if with_payload else None
        return JobRecord(
            id=row.id,
            kind=JobKind(row.kind),
            state=JobState(row.state),
            erasure_id=row.erasure_id,
            worker=row.worker,
            attempt=row.attempt,
            created_at=row.created_at,
            updated_at=row.updated_at,
            progress=dict(row.progress),
            error=(opened("sealed_error") or b"").decode(),
            spec=sealing.decode(spec) if spec is not None else None,
            result=sealing.decode(result) if result is not None else None,
        )


def _find_job(connection: Connection, job_id: str) -> sa.Row[Any]:
    row = connection.execute(sa.select(schema.jobs).where(schema.jobs.c.id == job_id)).first()
    if row is None:
        raise NotFound(f"job {job_id} does not exist; list the jobs to see which do")
    return row


def _require_change_allowed(job_id: str, current: JobState, expected: JobState | None) -> None:
    if expected is not None and current is not expected:
        raise StaleGeneration(
            f"job {job_id} is {current.value}, not {expected.value}; read it again and decide anew",
            reason="STALE_STATE",
            metadata={"job": job_id, "state": current.value},
        )
    if expected is None and current.is_final:
        raise FailedPrecondition(
            f"job {job_id} is {current.value} and can't change any more; create a new job",
            reason="JOB_FINISHED",
            metadata={"job": job_id, "state": current.value},
        )


def _require_attempt(job_id: str, current: int, expected: int | None) -> None:
    if expected is not None and current != expected:
        raise StaleGeneration(
            f"job {job_id} is in attempt {current}, not {expected}: another worker has it; leave it there",
            reason="STALE_ATTEMPT",
            metadata={"job": job_id, "attempt": str(current)},
        )
