"""What a gateway shows of the cluster: readiness, and the gauges that no request changes."""

from __future__ import annotations

import asyncio

from expunge.errors import ExpungeError, Unavailable
from expunge.gateway.follower import Follower
from expunge.gateway.upstream import RegistryUpstream
from expunge.observability.logging import get_logger
from expunge.observability.metrics import GatewayMetrics
from expunge.registry.records import ErasureState, MemberKind, MemberStatus

_log = get_logger()
_READY_PERIOD_S = 5.0
_UNREADY_PERIOD_S = 0.25


class ClusterState:
    """Looks at the registry's members and erasures from time to time.

    A gateway is ready while its lease holds and some engine replica has every version staged that an alias
    points at.
    """

    def __init__(self, registry: RegistryUpstream, follower: Follower, metrics: GatewayMetrics) -> None:
        self._registry = registry
        self._follower = follower
        self._metrics = metrics
        self._engines: tuple[MemberStatus, ...] = ()
        self._task: asyncio.Task[None] | None = None

    @property
    def has_engine(self) -> bool:
        """Whether some routable replica can answer for every alias."""
        try:
            rollouts = self._follower.view().rollouts.values()
        except Unavailable:  # asked in one step: the lease may end any time
            return False
        needed = {target.version for rollout in rollouts for target in rollout.targets}
        return any(needed <= set(engine.staged) for engine in self._engines if engine.routable)

    @property
    def is_watching(self) -> bool:
        """Whether it looks; false after an error that no retry can mend."""
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        self._task = asyncio.create_task(self._watch(), name="cluster-state")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def refresh(self) -> None:
        """Look once.

        Raises:
            ExpungeError: the registry can't be asked.
        """
        members = await self._registry.members()
        self._engines = tuple(member for member in members if member.kind is MemberKind.ENGINE)
        self._metrics.show_engines(engine.staged for engine in self._engines)
        self._metrics.engine_metrics.show({engine.member: engine.samples for engine in self._engines})
        erasures = [record.state for record in await self._registry.list_erasures()]
        self._metrics.show_erasures({state.value: erasures.count(state) for state in ErasureState})
        self._metrics.lease_seconds.set(self._follower.lease_left_s)

    async def _watch(self) -> None:
        while True:
            try:
                await self.refresh()
            except ExpungeError as error:
                _log.warning("cluster_state_unknown", exc_info=error)
            await asyncio.sleep(_READY_PERIOD_S if self.has_engine else _UNREADY_PERIOD_S)
