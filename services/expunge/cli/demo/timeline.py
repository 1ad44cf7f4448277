"""Which version was live when: checks that each response used one single version, and one that was live."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from expunge.cli.demo.responses import Outcome, Response
from expunge.rpc.operator.v1 import rollout_pb2

PROMISED_FLIP_S = 0.1  # new requests see the new version within this of the commit


@dataclass(frozen=True)
class Reign:
    """One generation of an alias: its versions, and the time it was in force (epoch seconds)."""

    generation: int
    versions: frozenset[str]
    since: float
    until: float


class Timeline:
    """The reigns of one alias."""

    def __init__(self, reigns: Iterable[Reign]) -> None:
        self._reigns = {reign.generation: reign for reign in reigns}

    @classmethod
    def of(cls, rollout: rollout_pb2.Rollout, history: Sequence[rollout_pb2.Rollout], now: float) -> Timeline:
        """From the alias as it is and its earlier generations."""
        changes = sorted({item.generation: item for item in (*history, rollout)}.items())
        ends = [_seconds(item) for _, item in changes[1:]] + [now]
        return cls(
            Reign(generation, frozenset(target.version for target in item.targets), _seconds(item), end)
            for (generation, item), end in zip(changes, ends, strict=True)
        )

    def is_consistent(self, response: Response, slack_s: float = PROMISED_FLIP_S) -> bool:
        """Whether all of `response` came from one version that was in force when it was admitted.

        Admission lies between sending and the first token; `slack_s` is how long after a commit the version
        before it may still be chosen.
        """
        if len(response.versions) != 1:
            return False
        version, generation = response.versions[0]
        reign = self._reigns.get(generation)
        return (
            reign is not None
            and version in reign.versions
            and reign.since <= response.first
            and response.sent <= reign.until + slack_s
        )

    def inconsistent(self, responses: Iterable[Response], slack_s: float = PROMISED_FLIP_S) -> list[Response]:
        """Answered responses for which that does not hold, and any whose chunks named several versions."""
        return [
            response
            for response in responses
            if len(response.versions) > 1
            or (response.outcome is Outcome.ANSWERED and not self.is_consistent(response, slack_s))
        ]


def _seconds(rollout: rollout_pb2.Rollout) -> float:
    return rollout.committed_at.seconds + rollout.committed_at.nanos / 1e9
