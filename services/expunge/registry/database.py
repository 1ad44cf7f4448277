"""The database: one writer thread, transactions, and its errors as domain errors."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from expunge.errors import Unavailable
from expunge.registry.migrations import HEAD

T = TypeVar("T")


class Database:
    """SQLAlchemy engine plus the threads that use it; the caller's event loop is never blocked.

    Writes run one after another on one thread, each in a transaction of its own: either all of it is
    stored, on disk and synced, or nothing is. SQLite is opened with a write-ahead log and synchronous=FULL.

    Args:
        url: SQLAlchemy URL. SQLite needs a file; ":memory:" is not supported.
    """

    def __init__(self, url: str) -> None:
        parsed = sa.make_url(url)
        self._is_sqlite = parsed.get_backend_name() == "sqlite"
        if self._is_sqlite and parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        self.engine: Engine = sa.create_engine(url, hide_parameters=True, pool_pre_ping=not self._is_sqlite)
        if self._is_sqlite:
            sa.event.listen(self.engine, "connect", _configure_sqlite)
            sa.event.listen(self.engine, "begin", _begin_sqlite)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="registry-write")
        self._readers = ThreadPoolExecutor(4, thread_name_prefix="registry-read")
        self._committing = threading.Lock()  # from before a commit to after its `after_commit`

    async def migrate(self) -> None:
        """Bring the schema to `HEAD`. Raises Unavailable when the database can't be used."""
        await self._on_writer(self._migrate)

    async def write(self, work: Callable[[Connection], T], after_commit: Callable[[], None]) -> T:
        """Run `work` in one transaction on the writer thread; then, still on it, `after_commit`.

        A caller that is cancelled does not stop the work: it is committed (or fails) all the same.

        Raises:
            Unavailable: the database failed; nothing of `work` is stored.
            ExpungeError: whatever `work` raises; nothing of it is stored.
        """

        def run() -> T:
            with contextlib.ExitStack() as until_told:
                with self._transaction(immediate=True) as connection:
                    result = work(connection)
                    until_told.enter_context(self._committing)
                after_commit()
            return result

        return await self._on_writer(run)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a read transaction on a reader thread. Raises Unavailable.

        Whatever of a write it sees, that write's `after_commit` is through before this returns.
        """

        def run() -> T:
            with self._transaction(immediate=False) as connection:
                result = work(connection)
            with self._committing:
                return result

        return await asyncio.get_running_loop().run_in_executor(self._readers, run)

    async def close(self) -> None:
        """Finish the writes under way and close every connection."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._writer.shutdown(wait=True)
        self._readers.shutdown(wait=True)
        self.engine.dispose()

    async def _on_writer(self, run: Callable[[], T]) -> T:
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._writer, run))

    @contextlib.contextmanager
    def _transaction(self, *, immediate: bool) -> Iterator[Connection]:
        try:
            with self.engine.connect() as plain:
                connection = plain.execution_options(expunge_immediate=immediate)
                with connection.begin():
                    yield connection
        except sa.exc.SQLAlchemyError as error:
            # The driver's own words only: SQLAlchemy would add the statement and its parameters.
            cause = getattr(error, "orig", None) or type(error).__name__
            raise Unavailable(
                f"the registry's database failed ({cause}); nothing was changed. "
                "Check its disk space and that it can be reached, then retry."
            ) from None

    def _migrate(self) -> None:
        with self._transaction(immediate=True) as connection:
            if _current_revision(connection) != HEAD:
                _upgrade(connection)


def _current_revision(connection: Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()


def _upgrade(connection: Connection) -> None:
    # Imported here: alembic takes about as long to import as all the rest, and a restart does not need it.
    from alembic import command
    from alembic.config import Config

    with as_file(files("expunge.registry.migrations")) as folder:
        config = Config()
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _configure_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin and end where SQLAlchemy says, see _begin_sqlite
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "busy_timeout=10000",
        "foreign_keys=ON",
        "secure_delete=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A deferred transaction that reads and then writes can fail half way when another process writes.
    immediate = connection.get_execution_options().get("expunge_immediate", True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
