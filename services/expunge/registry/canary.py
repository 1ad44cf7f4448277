"""A canary: a version that takes over an alias step by step, and the decision what comes next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from expunge.errors import InvalidRequest, Violation
from expunge.registry.records import Target

CONDUCTOR = "conductor"  # the principal of every change that a canary makes by itself
_ROUNDING = 1e-9  # exactly the threshold is not above it


@dataclass(frozen=True)
class CanarySpec:
    """How a version is to take over.

    Attributes:
        steps: percent of principals on it at each step, rising to 100.
        step_s: least seconds at each step.
        min_requests: least number of its requests that have ended at each step.
        max_error_rate: largest share of failures of its requests at a step, 0 to 1.
        max_error_increase: largest difference to the earlier version's share at the same step; None: not
            compared.
    """

    steps: tuple[int, ...] = (1, 10, 50, 100)
    step_s: float = 60.0
    min_requests: int = 20
    max_error_rate: float = 0.05
    max_error_increase: float | None = None

    def require_valid(self) -> None:
        """Raise InvalidRequest, naming every bad field."""
        rising = all(low < high for low, high in zip(self.steps, self.steps[1:], strict=False))
        found = []
        if not self.steps or not rising or self.steps[0] < 1 or self.steps[-1] != 100:
            found.append(
                Violation("canary.steps", "must rise from at least 1 to exactly 100, as 1, 10, 50, 100")
            )
        if not 0 <= self.step_s <= 30 * 86400:
            found.append(Violation("canary.step_duration", "must be between 0 and 30 days"))
        if not 0 <= self.min_requests <= 1_000_000:
            found.append(Violation("canary.min_requests", "must be between 0 and 1000000"))
        if not 0 <= self.max_error_rate <= 1:
            found.append(Violation("canary.max_error_rate", "is a share: it must be between 0 and 1"))
        if self.max_error_increase is not None and not 0 <= self.max_error_increase <= 1:
            found.append(Violation("canary.max_error_increase", "is a share: it must be between 0 and 1"))
        if found:
            raise InvalidRequest.of_all(found)

    def targets(self, step: int, version: str, stable: str) -> tuple[Target, ...]:
        """The rollout at a step, from 0; the earlier version comes first, so that nobody moves back to it."""
        weight = self.steps[step]
        if weight == 100:
            return (Target(version),)
        return (Target(stable, 100 - weight), Target(version, weight))


class CanaryState(StrEnum):
    RUNNING = "running"
    FINISHED = "finished"
    ROLLED_BACK = "rolled_back"
    ENDED = "ended"  # by another change of the rollout
    STUCK = "stuck"  # to be rolled back, and nothing else may be served


@dataclass(frozen=True)
class Tally:
    """Requests of one version that have ended."""

    requests: int = 0
    failures: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.requests + other.requests, self.failures + other.failures)

    @property
    def rate(self) -> float:
        return self.failures / self.requests if self.requests else 0.0


@dataclass(frozen=True)
class StepTally:
    """What both versions did at one step."""

    version: Tally = Tally()
    stable: Tally = Tally()


@dataclass(frozen=True)
class CanaryPlan:
    """A stored canary. `step` counts from 0; `generation` is that of the alias at this step.

    `tallies` holds what gateways told, by the generation that requests were routed by. `alarm` is why the
    version must not stay; `detail` how it all ended.
    """

    alias: str
    version: str
    stable: str
    spec: CanarySpec
    state: CanaryState
    step: int
    generation: int
    began_at: float
    step_began_at: float
    alarm: str = ""
    detail: str = ""
    reason: str = ""
    principal: str = ""
    tallies: Mapping[int, StepTally] = field(default_factory=dict)

    @property
    def weight(self) -> int:
        return self.spec.steps[self.step]

    @property
    def now_tally(self) -> StepTally:
        """What was told of the present step."""
        return self.tallies.get(self.generation, StepTally())


@dataclass(frozen=True)
class Hold:
    """Stay at this step, and look again after `seconds` (None: when something is told)."""

    why: str
    seconds: float | None = None


@dataclass(frozen=True)
class Advance:
    """Go to `step`."""

    step: int


@dataclass(frozen=True)
class Finish:
    """The last step has held."""


@dataclass(frozen=True)
class BackOut:
    """Put the alias back."""

    why: str


Decision = Hold | Advance | Finish | BackOut


def decide(plan: CanaryPlan, now: float) -> Decision:
    """What a running canary has to do at `now` (seconds since the epoch).

    Requests that began at an earlier step may fail later: every step is judged, not only the present one.
    """
    if plan.alarm:
        return BackOut(plan.alarm)
    for generation in sorted(plan.tallies):
        if why := breach(plan, plan.tallies[generation]):
            return BackOut(why)
    at = f"step {plan.step + 1} of {len(plan.spec.steps)} ({plan.weight} %)"
    left = plan.step_began_at + plan.spec.step_s - now
    if left > 0:
        return Hold(f"{at}: {left:.0f} s left", left)
    ended = plan.now_tally.version.requests
    if ended < plan.spec.min_requests:
        return Hold(f"{at}: {ended} of {plan.spec.min_requests} requests")
    return Finish() if plan.step == len(plan.spec.steps) - 1 else Advance(plan.step + 1)


def breach(plan: CanaryPlan, tally: StepTally) -> str:
    """Which threshold a step's failures exceed, in words; "" where none.

    Failures count against `min_requests` while there are fewer requests: one early failure is no verdict, and
    what exceeds the threshold then would exceed it also if all that are still to come succeeded.
    """
    spec, failures = plan.spec, tally.version.failures
    weighed = max(tally.version.requests, spec.min_requests)
    told = f"{failures} of {tally.version.requests} requests failed"
    if failures > spec.max_error_rate * weighed + _ROUNDING:
        return f"{told}, above the threshold of {spec.max_error_rate:.2%}"
    if spec.max_error_increase is not None:
        # At 100 % nobody is on the earlier version: what it did at the steps before stands for it.
        stable = tally.stable if tally.stable.requests else _all_of_stable(plan)
        if failures > (stable.rate + spec.max_error_increase) * weighed + _ROUNDING:
            above = f"{spec.max_error_increase:.2%} above the earlier version's {stable.rate:.2%}"
            return f"{told}, more than {above}"
    return ""


def _all_of_stable(plan: CanaryPlan) -> Tally:
    return sum((tally.stable for tally in plan.tallies.values()), Tally())
