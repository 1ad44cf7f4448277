"""What became of one request of the demo's load, and the plan the load is driven by."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum


class About(StrEnum):
    """Whom a question is about."""

    PERSON = "person"  # the one who is erased
    OTHERS = "others"
    GENERAL = "general"


class Outcome(StrEnum):
    ANSWERED = "answered"
    REFUSED = "refused"  # by policy
    FAILED = "failed"


@dataclass(frozen=True)
class LoadPlan:
    """What the load process is told.

    Attributes:
        rate: new requests a second; arrivals do not wait for answers (open loop).
        streams: most requests running at once; an arrival beyond that waits its turn.
        calibrate_s: when above 0, keep `streams` requests running for so many seconds and ignore `rate`.
    """

    address: str
    token: str
    alias: str
    questions: tuple[tuple[About, str], ...]
    streams: int
    max_tokens: int
    timeout_s: float
    rate: float = 0.0
    calibrate_s: float = 0.0
    seed: int = 0

    def to_line(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_line(line: str) -> LoadPlan:
        fields = json.loads(line)
        fields["questions"] = tuple((About(about), text) for about, text in fields["questions"])
        return LoadPlan(**fields)


@dataclass(frozen=True)
class Response:
    """One finished request. Times are seconds since the epoch.

    Attributes:
        versions: every distinct (version id, generation) that its chunks named.
        status: gRPC status, "OK" when it was answered.
    """

    about: About
    outcome: Outcome
    sent: float
    first: float
    done: float
    versions: tuple[tuple[str, int], ...] = ()
    tokens: int = 0
    status: str = "OK"
    detail: str = ""

    def to_line(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_line(line: str) -> Response:
        fields = json.loads(line)
        fields["about"] = About(fields["about"])
        fields["outcome"] = Outcome(fields["outcome"])
        fields["versions"] = tuple((version, generation) for version, generation in fields["versions"])
        return Response(**fields)
