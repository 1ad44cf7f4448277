"""Which versions are resident on this replica, in which slot, and how many requests use each."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import dataclass

from expunge.errors import VersionNotStaged


@dataclass
class _Resident:
    slot: int
    uses: int = 0
    leaving: Future[bool] | None = None  # resolves true when the last use ends, false when revived


class Residents:
    """Reference counts by version, taken under the same lock that resolves the version."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._versions: dict[str, _Resident] = {}

    @property
    def ids(self) -> tuple[str, ...]:
        """Versions that may be asked for."""
        with self._lock:
            return tuple(version for version, resident in self._versions.items() if not resident.leaving)

    def uses(self, version: str) -> int:
        """Requests that hold `version` now."""
        with self._lock:
            resident = self._versions.get(version)
            return resident.uses if resident else 0

    def slot_of(self, version: str) -> int:
        """Where `version`, which is resident or leaving, is staged."""
        with self._lock:
            return self._versions[version].slot

    def add(self, version: str, slot: int) -> None:
        """Let requests use `version`, which is staged in `slot`."""
        with self._lock:
            self._versions[version] = _Resident(slot)

    def acquire(self, version: str) -> int:
        """Count one use and return the slot.

        Raises:
            VersionNotStaged: not resident, or leaving. There is no other version to fall back to.
        """
        with self._lock:
            resident = self._versions.get(version)
            if resident is None or resident.leaving:
                raise VersionNotStaged(
                    f"version {version} is not staged on this replica; stage it through a rollout and retry",
                    metadata={"version": version},
                )
            resident.uses += 1
            return resident.slot

    def release(self, version: str) -> None:
        """End one use."""
        with self._lock:
            resident = self._versions[version]
            resident.uses -= 1
            if resident.leaving and resident.uses == 0:
                resident.leaving.set_result(True)

    def retire(self, version: str) -> Future[bool] | None:
        """Accept no new use of `version`; None when it is not resident.

        The future gives true once no use is left (then `remove` it), false when it was revived.
        """
        with self._lock:
            resident = self._versions.get(version)
            if resident is None:
                return None
            if resident.leaving is None:
                resident.leaving = Future()
                resident.leaving.set_running_or_notify_cancel()  # a waiter that goes away must not cancel it
                if resident.uses == 0:
                    resident.leaving.set_result(True)
            return resident.leaving

    def revive(self, version: str) -> bool:
        """Accept uses again of a version that is resident; false when it has to be loaded."""
        with self._lock:
            resident = self._versions.get(version)
            if resident is None or (resident.leaving and resident.leaving.done()):
                return False
            if resident.leaving:
                resident.leaving.set_result(False)
                resident.leaving = None
            return True

    def remove(self, version: str) -> None:
        """Forget a retired version that has no use left."""
        with self._lock:
            del self._versions[version]
