"""The registry's face: one object with every operation, testable in process.

Each part lives in a file named after its noun; `client.RegistryClient` offers the same methods from other
processes.
"""

from __future__ import annotations

from expunge.registry.audits import Audits
from expunge.registry.conductor import Conductor
from expunge.registry.erasures import Erasures
from expunge.registry.events import Events
from expunge.registry.jobs import Jobs
from expunge.registry.members import Members
from expunge.registry.versions import Versions


class RegistryService(Members, Versions, Conductor, Erasures, Jobs, Audits, Events):
    """The only writer of the database, and the hub that replicas and gateways follow.

    Call `start` before anything else and `close` at the end. Belongs to one event loop. Every write is one
    transaction with its event, synced to disk before the call returns; changes that members see are published
    after the commit. Nothing is held only in memory but leases and stagings under way.

    Args:
        settings: database, keys, lease and staging deadlines.
        wall: epoch seconds, for what is stored.
        monotonic: seconds of a clock that never jumps; leases and deadlines are judged by it.
        environment: where EXPUNGE_MASTER_KEY is looked up.
    """
