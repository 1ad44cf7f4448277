"""Between the registry's canaries and the messages of RolloutService."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from expunge.gateway.operator.translation import seconds_of, timestamp
from expunge.registry.canary import CanaryPlan, CanarySpec, CanaryState, Hold, Tally, decide
from expunge.rpc.operator.v1 import rollout_pb2 as pb

_DEFAULT = CanarySpec()


def canary_spec(message: pb.Canary) -> CanarySpec:
    """What a caller asks for, with defaults where it says nothing; the registry checks it."""
    has = message.HasField
    return CanarySpec(
        steps=tuple(message.steps) or _DEFAULT.steps,
        step_s=seconds_of(message.step_duration) if has("step_duration") else _DEFAULT.step_s,
        min_requests=message.min_requests if has("min_requests") else _DEFAULT.min_requests,
        max_error_rate=message.max_error_rate if has("max_error_rate") else _DEFAULT.max_error_rate,
        max_error_increase=message.max_error_increase if has("max_error_increase") else None,
    )


def canary_message(plan: CanaryPlan, now: float) -> pb.CanaryProgress:
    """A canary and how far it has come at `now`, seconds since the epoch."""
    told = plan.now_tally
    return pb.CanaryProgress(
        version=plan.version,
        stable_version=plan.stable,
        canary=_spec_message(plan.spec),
        state=pb.CanaryState.Value(f"CANARY_STATE_{plan.state.name}"),
        step=plan.step + 1,
        weight=plan.weight,
        began_at=timestamp(plan.began_at),
        step_began_at=timestamp(plan.step_began_at),
        version_outcomes=_outcomes(told.version),
        stable_outcomes=_outcomes(told.stable),
        detail=_detail(plan, now),
    )


def _spec_message(spec: CanarySpec) -> pb.Canary:
    duration = Duration()
    duration.FromNanoseconds(int(spec.step_s * 1e9))
    return pb.Canary(
        steps=spec.steps,
        step_duration=duration,
        min_requests=spec.min_requests,
        max_error_rate=spec.max_error_rate,
        max_error_increase=spec.max_error_increase,
    )


def _outcomes(tally: Tally) -> pb.Outcomes:
    return pb.Outcomes(requests=tally.requests, failures=tally.failures)


def _detail(plan: CanaryPlan, now: float) -> str:
    if plan.state is not CanaryState.RUNNING:
        return plan.detail
    decision = decide(plan, now)
    return decision.why if isinstance(decision, Hold) else "about to move"
