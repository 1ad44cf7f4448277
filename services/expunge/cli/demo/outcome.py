"""What the demo measured, as its last line of JSON, and the goals it is held to."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

SECONDS_TO_LIVE_GOAL = 240.0
REQUESTS_GOAL = 50


@dataclass
class DemoResult:
    """The figures of one run; None where the run ended before they were measured.

    Attributes:
        requests: requests of the load that have ended, refused ones included.
        failed_requests: those that ended in an error other than a policy refusal about the erased person, and
            questions about the person that were answered while every gateway should have refused them.
        mixed_version_responses: responses that named several versions, or one that was not live then.
        leaks_before, leaks_after: erased facts told when asked as they were taught.
        paraphrase_leaks_after: other wordings that brought a secret back.
        prefix_leak_rate_after: share of word splits of the true answers after which the secret's rest came.
        retain_correct_before, retain_correct_after: facts told right, of those that unlearning never saw.
        seconds_suppressed: from acceptance to the last gateway's confirmation of the guard.
        seconds_to_live: from acceptance to the new version's being live.
        flip_ms: from the commit to the last replica's and gateway's confirmation.
        versions: ids of the versions that were live, in order.
    """

    requests: int = 0
    failed_requests: int = 0
    mixed_version_responses: int = 0
    facts_erased: int = 0
    leaks_before: int | None = None
    leaks_after: int | None = None
    paraphrase_leaks_after: int | None = None
    prefix_leak_rate_after: float | None = None
    retain_correct_before: int | None = None
    retain_correct_after: int | None = None
    seconds_suppressed: float | None = None
    seconds_to_live: float | None = None
    flip_ms: float | None = None
    versions: list[str] = field(default_factory=list)

    def to_line(self) -> str:
        return json.dumps({name: _rounded(value) for name, value in asdict(self).items()})


@dataclass(frozen=True)
class Goal:
    """One thing that must hold at the end."""

    text: str
    met: bool


def goals(result: DemoResult, prefix_control_upper: float) -> list[Goal]:
    """Each goal of the demo and whether this run met it; a figure that is missing meets none.

    Args:
        prefix_control_upper: upper end of the Wilson 95 % interval of the control's prefix leak rate.
    """

    def at_most(value: float | None, limit: float) -> bool:
        return value is not None and value <= limit

    kept = None
    if result.retain_correct_before is not None and result.retain_correct_after is not None:
        kept = result.retain_correct_before - result.retain_correct_after
    return [
        Goal("no request failed", result.failed_requests == 0),
        Goal("no response mixed versions", result.mixed_version_responses == 0),
        Goal(f"at least {REQUESTS_GOAL} requests came meanwhile", result.requests >= REQUESTS_GOAL),
        Goal("the model told the facts before", bool(result.leaks_before)),
        Goal("no erased fact is told", at_most(result.leaks_after, 0)),
        Goal("no erased fact is told in other words", at_most(result.paraphrase_leaks_after, 0)),
        Goal(
            f"prefixes bring back no more than a control's upper end ({prefix_control_upper:.3f})",
            at_most(result.prefix_leak_rate_after, prefix_control_upper),
        ),
        Goal("at most one fact about others was lost", at_most(kept, 1)),
        Goal(
            f"live within {SECONDS_TO_LIVE_GOAL:.0f} s of acceptance",
            at_most(result.seconds_to_live, SECONDS_TO_LIVE_GOAL),
        ),
    ]


def _rounded(value: object) -> object:
    return round(value, 4) if isinstance(value, float) else value
