"""The engine's router in Serve: a replica that holds the version, best one that saw the prompt's beginning.

Serve runs one router in each process with a handle, on an event loop of its own. It keeps the list of live
replicas (one that is being stopped is not in it), learns how busy they are, and asks another where a replica
has died before it accepted a request. Serve calls this interface alpha; all that depends on it is in this
file, which Serve pickles as a whole and by value.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ray.serve.request_router import (
    PendingRequest,
    ReplicaID,
    RequestRouter,
    RunningReplica,
)

from expunge.errors import Unavailable, VersionNotStaged
from expunge.inference.placement import Placement
from expunge.inference.prefix_map import PrefixMap, prefix_keys
from expunge.inference.replica_choice import Candidate, by_preference
from expunge.inference.request import GenerationRequest, ScoreRequest

RETRY_AFTER_S = 1.0
# How often Serve's controller asks a replica for its `routing_stats`; the routers are told what has changed.
STATS_PERIOD_S = 0.5


def routing_stats(staged: tuple[str, ...]) -> dict[str, Any]:
    """What a replica tells the routers; nothing that changes with every request."""
    return {"staged": sorted(staged)}


def not_staged(version: str) -> Unavailable:
    """The version is what a rollout names (or named a moment ago), so another replica or time can answer."""
    return Unavailable(
        f"version {version} is not staged on the replicas that were asked; retry",
        reason=VersionNotStaged.default_reason,
        metadata={"version": version},
        retry_after_s=RETRY_AFTER_S,
    )


class EngineRouter(RequestRouter):
    """Routes calls whose arguments are a request and its `Placement`; any other goes to any replica."""

    def initialize_state(self, *, slack: int) -> None:
        """Serve calls this once.

        Args:
            slack: how many requests more than the least busy replica one with the prefix may have.
        """
        self._slack = slack
        self._random = random.Random()
        self._prefixes = PrefixMap()
        self._names: frozenset[str] = frozenset()
        self._placed: dict[str, str] = {}  # call from here that is not over → its replica
        self._ongoing: Counter[str] = Counter()  # how many of them each replica has

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """One replica for each rank, best first. Serve takes the first that accepts."""
        if pending_request is None or not _is_request(pending_request.args):
            return [candidate_replicas]
        request, placement = pending_request.args
        pending_request.routing_context.should_backoff = True  # where every replica is full
        replicas = {_name(replica.replica_id): replica for replica in candidate_replicas}
        candidates = [self._candidate(name, replica) for name, replica in replicas.items()]
        keys = prefix_keys(request)
        names = by_preference(
            candidates, request.version, placement, self._prefixes.matches(keys), self._slack, self._random
        )
        if names:
            self._prefixes.note(keys, names[0])
            self._expect(pending_request, names[0])
            return [[replicas[name]] for name in names]
        if not pending_request.future.done():
            pending_request.future.set_exception(not_staged(request.version))
        return [candidate_replicas]  # Serve looks at the future when it is given any

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Serve calls this when a replica has come or gone, or its stats have changed."""
        names = frozenset(_name(replica.replica_id) for replica in replicas)
        if names != self._names:
            self._names = names
            self._prefixes.keep(names)
        super().update_replicas(replicas)

    def on_request_routed(
        self, pending_request: PendingRequest, replica_id: ReplicaID, result: object
    ) -> None:
        """A replica has accepted the request."""
        call = pending_request.metadata.internal_request_id
        if call in self._placed:
            self._place(call, _name(replica_id))

    def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:
        """The request is over, however it ended."""
        self._place(internal_request_id, None)

    def _expect(self, pending_request: PendingRequest, name: str) -> None:
        """Count the request from now on: of many routed at one time, each must see the ones before it."""
        call = pending_request.metadata.internal_request_id
        if call not in self._placed:
            pending_request.future.add_done_callback(
                lambda future: self._place(call, None) if future.cancelled() else None
            )
        self._place(call, name)

    def _place(self, call: str, name: str | None) -> None:
        before = self._placed.pop(call, None)
        if before is not None:
            self._ongoing[before] -= 1
            if not self._ongoing[before]:
                del self._ongoing[before]
        if name is not None:
            self._placed[call] = name
            self._ongoing[name] += 1

    def _candidate(self, name: str, replica: RunningReplica) -> Candidate:
        # The cache knows of other gateways' requests, too, but not of what is on its way, nor for long.
        cached = self.replica_queue_len_cache.get(replica.replica_id) or 0
        stats: Mapping[str, Any] = replica.routing_stats
        staged = frozenset(stats["staged"]) if "staged" in stats else None
        return Candidate(name, max(cached, self._ongoing[name]), staged)


def _is_request(args: list[Any]) -> bool:
    return (
        len(args) == 2
        and isinstance(args[0], (GenerationRequest, ScoreRequest))
        and isinstance(args[1], Placement)
    )


def _name(replica_id: ReplicaID) -> str:
    """As the replica calls itself in the registry."""
    return str(replica_id.unique_id)
