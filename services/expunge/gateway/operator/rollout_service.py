"""RolloutService: what aliases point at."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence

from google.protobuf.duration_pb2 import Duration

from expunge.errors import InvalidRequest
from expunge.gateway.call import current_caller
from expunge.gateway.chain import Context
from expunge.gateway.names import check_alias, check_reason
from expunge.gateway.operator.canary_messages import canary_message, canary_spec
from expunge.gateway.operator.event_stream import EventStream
from expunge.gateway.operator.translation import event_message, rollout_message, seconds_of, timestamp
from expunge.gateway.unbuilt import not_built
from expunge.gateway.upstream import RegistryUpstream
from expunge.registry.canary import CanaryPlan
from expunge.registry.records import Rollout, Target
from expunge.rpc.operator.v1 import rollout_pb2 as pb
from expunge.rpc.operator.v1 import rollout_pb2_grpc as pb_grpc

DEFAULT_TIMEOUT_S = 60.0
MAX_TIMEOUT_S = 3600.0


class RolloutService(pb_grpc.RolloutServiceServicer):
    """The floor, staging and the compare-and-set are the registry's; this translates."""

    def __init__(
        self, registry: RegistryUpstream, stream: EventStream, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._registry = registry
        self._clock = clock
        self._stream = stream

    async def SetRollout(self, request: pb.SetRolloutRequest, context: Context) -> pb.SetRolloutResponse:
        check_alias(request.alias)
        check_reason(request.reason, required=False)
        change = await self._registry.set_rollout(
            request.alias,
            await self._targets(request.targets),
            request.expected_generation,
            request.reason,
            current_caller().principal,
            _timeout_s(request.timeout if request.HasField("timeout") else None),
            canary=canary_spec(request.canary) if request.HasField("canary") else None,
        )
        return pb.SetRolloutResponse(
            rollout=await self._shown(change.rollout),
            committed_at=timestamp(change.committed_at),
            confirmed_at=timestamp(change.confirmed_at),
            flip_ms=change.flip_ms,
        )

    async def Rollback(self, request: pb.RollbackRequest, context: Context) -> pb.RollbackResponse:
        check_alias(request.alias)
        check_reason(request.reason, required=False)
        to_version = request.to_version
        if to_version:
            to_version = (await self._registry.get_version(to_version)).id
        change = await self._registry.rollback(
            request.alias,
            request.expected_generation,
            request.reason,
            current_caller().principal,
            _timeout_s(request.timeout if request.HasField("timeout") else None),
            to_version=to_version,
        )
        return pb.RollbackResponse(
            rollout=await self._shown(change.rollout),
            committed_at=timestamp(change.committed_at),
            confirmed_at=timestamp(change.confirmed_at),
            flip_ms=change.flip_ms,
        )

    async def GetRollout(self, request: pb.GetRolloutRequest, context: Context) -> pb.GetRolloutResponse:
        while True:
            rollout = await self._registry.get_rollout(request.alias)
            plan = await self._registry.get_canary(request.alias)
            if plan is None or plan.generation <= rollout.generation:
                break  # else the canary has moved between the two
        history = await self._registry.rollout_history(request.alias) if request.with_history else ()
        earlier = sorted(
            (entry for entry in history if entry.generation < rollout.generation),
            key=lambda entry: entry.generation,
            reverse=True,
        )
        return pb.GetRolloutResponse(
            rollout=self._with_canary(rollout, plan), history=[rollout_message(entry) for entry in earlier]
        )

    async def ListRollouts(
        self, request: pb.ListRolloutsRequest, context: Context
    ) -> pb.ListRolloutsResponse:
        while True:
            rollouts = sorted(await self._registry.list_rollouts(), key=lambda rollout: rollout.alias)
            generations = {rollout.alias: rollout.generation for rollout in rollouts}
            canaries = {plan.alias: plan for plan in await self._registry.list_canaries()}
            if all(plan.generation <= generations.get(plan.alias, 0) for plan in canaries.values()):
                break  # else a canary has moved between the two
        return pb.ListRolloutsResponse(
            rollouts=[self._with_canary(rollout, canaries.get(rollout.alias)) for rollout in rollouts]
        )

    async def WatchRollouts(
        self, request: pb.WatchRolloutsRequest, context: Context
    ) -> AsyncIterator[pb.WatchRolloutsResponse]:
        topic = f"rollout:{request.alias}"
        if request.alias:
            await self._registry.get_rollout(request.alias)
        async for event in self._stream.events(
            topic, request.after_seq, wanted=lambda event: not request.alias or event.topic == topic
        ):
            yield pb.WatchRolloutsResponse(event=event_message(event))

    async def RequestOverride(
        self, request: pb.RequestOverrideRequest, context: Context
    ) -> pb.RequestOverrideResponse:
        raise not_built("RequestOverride")

    async def ApproveOverride(
        self, request: pb.ApproveOverrideRequest, context: Context
    ) -> pb.ApproveOverrideResponse:
        raise not_built("ApproveOverride")

    async def _shown(self, rollout: Rollout) -> pb.Rollout:
        return self._with_canary(rollout, await self._registry.get_canary(rollout.alias))

    def _with_canary(self, rollout: Rollout, plan: CanaryPlan | None) -> pb.Rollout:
        """The rollout, with its canary unless the alias has moved on since."""
        message = rollout_message(rollout)
        if plan is not None and plan.generation >= rollout.generation:
            message.canary.CopyFrom(canary_message(plan, self._clock()))
        return message

    async def _targets(self, targets: Sequence[pb.Target]) -> tuple[Target, ...]:
        """The targets with their versions' ids; a single one may leave out its weight."""
        alone = 100 if len(targets) == 1 else 0
        versions = [await self._registry.get_version(target.version) for target in targets]
        return tuple(
            Target(version.id, target.weight or alone)
            for version, target in zip(versions, targets, strict=True)
        )


def _timeout_s(duration: Duration | None) -> float:
    if duration is None:
        return DEFAULT_TIMEOUT_S
    timeout_s = seconds_of(duration)
    if not 0 < timeout_s <= MAX_TIMEOUT_S:
        raise InvalidRequest.of("timeout", f"must be above 0 and at most {MAX_TIMEOUT_S:.0f} s")
    return timeout_s
