"""What every part of the registry service shares: settings, database, vault, members, and publishing."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from expunge.config import Settings
from expunge.errors import ConfigError
from expunge.registry import floor, schema
from expunge.registry.blobs import BlobStore
from expunge.registry.database import Database
from expunge.registry.erasure_change import find_erasure
from expunge.registry.guards import GuardReader
from expunge.registry.hub import Hub
from expunge.registry.membership import Membership
from expunge.registry.records import MemberKind, Outcome, Snapshot, VersionRecord
from expunge.registry.serving_state import ServingState, compose, current_rollouts, read_state
from expunge.registry.staging import Staging
from expunge.registry.transaction import Transaction
from expunge.registry.vault import DataKey, Vault

_KEY_CHECK = b"expunge: this is the right master key"

T = TypeVar("T")


class Core:
    """Base of the parts of `RegistryService`; see there for the arguments."""

    vault: Vault

    def __init__(
        self,
        settings: Settings,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self.settings = settings
        self.wall = wall
        self.monotonic = monotonic
        self.hub = Hub()
        self.membership = Membership(settings.lease_s, wall, monotonic)
        self.staging = Staging(monotonic)
        self.refused: set[str] = set()  # aliases found below the floor at start; they are not served
        self._told: dict[str, tuple[Outcome, ...]] = {}  # member → outcomes that are stored
        self._database = Database(settings.resolved_database_url)
        self._environment = environment
        self._state: ServingState | None = None

    async def start(self) -> None:
        """Open the database, migrate it, load everything, and publish the first snapshot.

        Raises:
            Unavailable: the database can't be used.
            ConfigError: the master key is missing, or is not this database's.
        """
        await self._database.migrate()
        await asyncio.to_thread(self.settings.state.mkdir, parents=True, exist_ok=True)
        key_check = await self._database.read(_read_key_check)
        self.vault = await asyncio.to_thread(
            Vault.load,
            self.settings.resolved_master_key_file,
            create=key_check is None,
            environment=self._environment,
        )
        if key_check not in (None, self.vault.mac(_KEY_CHECK)):
            raise ConfigError(
                "the master key is not the one this database was encrypted with; restore the right key file"
            )
        self._guards = GuardReader(self.vault)
        await self.write(self._load)
        await asyncio.to_thread(BlobStore(self.settings.resolved_blob_url).remove_stale_uploads)

    async def process_id(self) -> int:
        """Process id of the service."""
        return os.getpid()

    async def close(self) -> None:
        """Finish writes under way and close the database."""
        await self._database.close()

    async def write(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in one transaction, then publish its events and, if it changed, the snapshot.

        Publication is in commit order, and happens before this returns, also when the caller is cancelled.

        Raises:
            Unavailable: the database failed; nothing is stored.
            ExpungeError: whatever `work` raises; nothing is stored.
        """
        loop = asyncio.get_running_loop()
        done: list[tuple[Transaction, ServingState | None]] = []

        def run(connection: Connection) -> T:
            transaction = Transaction(connection, self.wall())
            result = work(transaction)
            state = read_state(connection, self._guards.read) if transaction.revision else None
            done.append((transaction, state))
            return result

        def after_commit() -> None:
            transaction, state = done[0]
            transaction.committed_at = self.monotonic()
            loop.call_soon_threadsafe(self._publish, transaction, state)

        return await self._database.write(run, after_commit)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on a reader thread. Raises Unavailable when the database failed."""
        return await self._database.read(work)

    def compose_snapshot(self, extra: tuple[VersionRecord, ...] = ()) -> Snapshot:
        """The snapshot as it is now, with `extra` versions wanted too."""
        if self._state is None:
            return self.hub.snapshot
        return compose(
            self._state,
            held=(*self.staging.held(), *extra),
            refused=self.refused,
            unroutable=self.membership.unroutable,
            capacity=self.capacity,
        )

    @property
    def capacity(self) -> int:
        """Versions that a replica can hold, besides those on their way out."""
        return self.settings.adapter_slots

    def data_key(self, connection: Connection, erasure_id: str) -> DataKey:
        """The key of what belongs to an erasure, or of what belongs to none ("").

        Raises:
            NotFound: no such erasure.
            DataLoss: its key can't be unwrapped.
        """
        if not erasure_id:
            return self.vault.own_key
        return self.vault.unwrap(find_erasure(connection, erasure_id).wrapped_key, erasure_id)

    async def wait_for_members(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until `condition()`, looking again at every report and whenever a lease runs out."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            self.membership.expire()
            remaining = deadline - loop.time()
            patience = min(remaining, self.membership.seconds_to_next_expiry() + 0.005)
            if await self.hub.members_changed.wait_until(condition, max(patience, 0.0)):
                return True
            if remaining <= 0:
                return False

    def _publish(self, transaction: Transaction, state: ServingState | None) -> None:
        if state is not None:
            self._state = state
            self.refused -= transaction.rolled_out
            self.membership.unroutable |= transaction.unroutable & set(self.membership.live())
            self.hub.publish_snapshot(self.compose_snapshot())
        self.hub.publish_events(transaction.events)
        if transaction.moves_canary:
            self.hub.publish_canaries()

    def _load(self, transaction: Transaction) -> None:
        """Begin a new life: expect the former members, and refuse what must not be served.

        The revision starts past the clock's milliseconds, so that it also differs from every revision that a
        database restored from a backup has forgotten.
        """
        if transaction.execute(sa.select(schema.service.c.id)).first() is None:
            transaction.execute(
                schema.service.insert().values(
                    id=1, revision=0, base_version="", policy_digest="", key_check=self.vault.mac(_KEY_CHECK)
                )
            )
        transaction.change_snapshot(at_least=int(transaction.now * 1000))
        erasures = floor.floor_erasures(transaction.connection)
        for rollout in current_rollouts(transaction.connection):
            unmet = {
                erasure
                for target in rollout.targets
                for erasure in floor.unmet(transaction.connection, target.version, erasures)
            }
            if unmet:
                self.refused.add(rollout.alias)
                transaction.add_event(
                    f"rollout:{rollout.alias}",
                    "refused_below_floor",
                    {"generation": rollout.generation, "erasures": sorted(unmet)},
                )
        for row in transaction.execute(sa.select(schema.members)):
            self.membership.expect(row.member, MemberKind(row.kind), row.address)
        latest = transaction.execute(sa.select(sa.func.max(schema.events.c.seq))).scalar()
        self.hub.latest_seq = int(latest or 0) - len(transaction.events)


def _read_key_check(connection: Connection) -> str | None:
    return connection.execute(sa.select(schema.service.c.key_check)).scalar()
