"""Keeps the versions of one replica what the registry wants them to be."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from expunge.errors import ExpungeError, Unavailable
from expunge.inference.observer import EngineObserver, Unobserved
from expunge.observability.engine_metrics import Sample
from expunge.observability.logging import get_logger
from expunge.registry.records import MemberKind, MemberReport, Snapshot, VersionKind, VersionRecord
from expunge.registry.signals import Signal

_log = get_logger()

POLL_S = 5.0  # also the heartbeat; the registry answers at once when something changes
RETRY_REGISTRY_S = 0.5
RETRY_STAGING_S = 5.0
# Gateways see a change some milliseconds later, and what they admitted before is on its way. One that was cut
# off may route to the old version for the rest of its lease; those calls end in UNAVAILABLE (`EngineClient`).
# Lingering for a whole lease would keep a slot, and a version that is to be forgotten, for just as long.
LINGER_S = 2.0
# A request that is ahead of its version waits here. A replica that refused at once would have the shortest
# queue, and so be asked the most; one that never gets the version still refuses in bounded time.
STAGING_WAIT_S = 1.0


class VersionHost(Protocol):
    """What holds the versions: an engine."""

    def staged(self) -> tuple[str, ...]: ...

    async def load_version(self, record: VersionRecord, folder: Path | None) -> None: ...

    async def unload_version(self, version: str) -> bool: ...


class VersionSource(Protocol):
    """The part of the registry that a replica follows."""

    async def watch(self, report: MemberReport, known_revision: int, timeout_s: float) -> Snapshot | None: ...

    async def leave(self, member: str) -> None: ...


class FolderStore(Protocol):
    """Where adapter files come from. The call blocks."""

    def fetch_folder(self, key: str, local_folder: Path) -> Path: ...


class VersionFollower:
    """Stages what is wanted, unloads the rest once unused, and reports both with every poll.

    A version that can't be staged is reported as failed and tried again: at once when what is wanted changes,
    else every few seconds. The others don't wait for it.

    Args:
        registry: what is followed.
        host: what holds the versions.
        blobs: where their files are.
        member: this replica's name.
        folder: files lie here while they are read; they are removed afterwards.
        monotonic: seconds.
        linger_s: how long a version that is no longer wanted still takes requests.
        staging_wait_s: how long a request may wait for its version to be staged.
        sleep: waits for some seconds.
        observer: is told how staging goes.
        samples: the replica's metrics as of now; they go with every report.
    """

    def __init__(
        self,
        registry: VersionSource,
        host: VersionHost,
        blobs: FolderStore,
        member: str,
        folder: Path,
        monotonic: Callable[[], float] = time.monotonic,
        linger_s: float = LINGER_S,
        staging_wait_s: float = STAGING_WAIT_S,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        observer: EngineObserver | None = None,
        samples: Callable[[], tuple[Sample, ...]] = tuple,
    ) -> None:
        self._registry = registry
        self._host = host
        self._blobs = blobs
        self._member = member
        self._folder = folder
        self._monotonic = monotonic
        self._linger_s = linger_s
        self._staging_wait_s = staging_wait_s
        self._sleep = sleep
        self._observer = observer or Unobserved()
        self._samples = samples
        self._snapshot: Snapshot | None = None
        self._failed: dict[str, str] = {}
        self._missing_since: dict[str, float] = {}  # active versions not staged, since when
        self._staging: dict[str, asyncio.Task[None]] = {}
        self._unloading: dict[str, asyncio.Task[None]] = {}
        self._news = asyncio.Event()  # something to report
        self._ready = asyncio.Event()
        self._versions_changed = Signal()

    # --- what it knows

    def report(self) -> MemberReport:
        """What this replica has seen and holds."""
        return MemberReport(
            member=self._member,
            kind=MemberKind.ENGINE,
            revision=self._snapshot.revision if self._snapshot else 0,
            staged=self._host.staged(),
            failed=dict(self._failed),
            samples=self._samples(),
        )

    async def ready(self) -> None:
        """Wait until every wanted version is staged.

        A version that no rollout points at does not hold the replica up once staging it has failed: one bad
        adapter that is being tried must not keep new replicas from serving the good ones.
        """
        await self._ready.wait()

    async def await_staged(self, version: str) -> bool:
        """Wait a bounded time for `version` to be staged here; false when it is not by then."""
        return await self._versions_changed.wait_until(
            lambda: version in self._host.staged(), self._staging_wait_s
        )

    def longest_missing_s(self) -> float:
        """How long an active version has been missing here; 0 when all are staged."""
        return max((self._monotonic() - since for since in self._missing_since.values()), default=0.0)

    # --- following

    async def run(self) -> None:
        """Follow until cancelled."""
        try:
            while True:
                await self._poll()
        finally:
            changes = [*self._staging.values(), *self._unloading.values()]
            for change in changes:
                change.cancel()
            await asyncio.gather(*changes, return_exceptions=True)

    async def leave(self) -> None:
        """Tell the registry that this replica is gone."""
        await self._registry.leave(self._member)

    async def _poll(self) -> None:
        """One long poll, cut short when there is something to report."""
        self._news.clear()
        known = self._snapshot.revision if self._snapshot else -1
        watching = asyncio.ensure_future(self._registry.watch(self.report(), known, POLL_S))
        news = asyncio.ensure_future(self._news.wait())
        try:
            await asyncio.wait((watching, news), return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                snapshot = watching.result()
                if snapshot is not None:
                    self._follow(snapshot)
        except Unavailable as error:
            _log.warning("registry_lost", member=self._member, detail=error.message)
            await self._sleep(RETRY_REGISTRY_S)
        finally:
            watching.cancel()
            news.cancel()
            await asyncio.gather(watching, news, return_exceptions=True)

    def _follow(self, snapshot: Snapshot) -> None:
        if self._snapshot is None or snapshot.wanted != self._snapshot.wanted:
            for version in self._failed:
                self._staging.pop(version).cancel()
            self._failed.clear()
        self._snapshot = snapshot
        self._reconcile()

    def _reconcile(self) -> None:
        """Start whatever brings the host closer to the snapshot, and note how far it is."""
        if self._snapshot is None:
            return
        staged = set(self._host.staged())
        wanted = {record.id: record for record in self._snapshot.wanted}
        for version in wanted.keys() - staged - self._staging.keys():
            self._staging[version] = asyncio.ensure_future(self._stage(wanted[version]))
        for version in staged - wanted.keys() - self._unloading.keys():
            self._unloading[version] = asyncio.ensure_future(self._unload(version))
        for version in self._unloading.keys() & wanted.keys() & staged:
            self._unloading.pop(version).cancel()
        active = {target.version for rollout in self._snapshot.rollouts for target in rollout.targets}
        now = self._monotonic()
        self._missing_since = {version: self._missing_since.get(version, now) for version in active - staged}
        if not self._missing_since and wanted.keys() <= staged | self._failed.keys():
            self._ready.set()

    # --- changes

    async def _stage(self, record: VersionRecord) -> None:
        """Stage one version; goes on trying until it is told to stop."""
        started = self._monotonic()
        while (reason := await self._try_to_stage(record)) is not None:
            self._failed[record.id] = reason
            self._observer.load_failed()
            _log.warning("staging_failed", member=self._member, version=record.id, detail=reason)
            self._report_soon()
            await self._sleep(RETRY_STAGING_S)
        self._failed.pop(record.id, None)
        del self._staging[record.id]
        seconds = self._monotonic() - started
        self._observer.version_loaded(seconds)
        _log.info("staged", member=self._member, version=record.id, seconds=seconds)
        self._report_soon()

    async def _try_to_stage(self, record: VersionRecord) -> str | None:
        """Why it did not work, or None."""
        try:
            if record.kind is VersionKind.BASE:
                await self._host.load_version(record, None)
                return None
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self._folder) as folder:
                fetched = await asyncio.to_thread(self._blobs.fetch_folder, record.blob, Path(folder))
                await self._host.load_version(record, fetched)
        except ExpungeError as error:
            return error.message
        except Exception as error:  # whatever a store or a file may raise: the other versions go on
            _log.exception("staging_broke", member=self._member, version=record.id)
            return f"staging it failed with {type(error).__name__}; see this replica's log"
        return None

    async def _unload(self, version: str) -> None:
        """Unload one version after a while, in which requests admitted to it may still arrive."""
        try:
            await self._sleep(self._linger_s)
            unloaded = await self._host.unload_version(version)
        except Unavailable:  # the host is closing, and everything with it
            _log.info("unload_interrupted", member=self._member, version=version)
            return
        finally:
            if self._unloading.get(version) is asyncio.current_task():
                del self._unloading[version]
        if unloaded:
            _log.info("unloaded", member=self._member, version=version)
        self._report_soon()

    def _report_soon(self) -> None:
        self._reconcile()
        self._news.set()
        self._versions_changed.notify()
