"""The life of an erasure as data: its states, and from which to which it may move.

    accepted → suppressed → inverting → measuring → training → auditing → staging → live → verified → closed

Back edges: a failed gate (auditing → inverting, the next round); a rebase on a rollout that has moved on
(measuring, training, auditing or staging → measuring); a leak found in live verification (live → inverting,
which leaves the erasure floor); a leak found later (closed → suppressed). Cancelled can follow any state
before live, and failed, since an operator decides what becomes of a failed erasure. Failed can follow any
state before live: an erasure that failed on the floor would leave it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from expunge.errors import FailedPrecondition
from expunge.registry.records import ErasureState as S

MAX_REBASES = 3

_FORWARD = {
    S.ACCEPTED: (S.SUPPRESSED,),
    S.SUPPRESSED: (S.INVERTING,),
    S.INVERTING: (S.MEASURING,),
    S.MEASURING: (S.TRAINING, S.STAGING, S.MEASURING),
    S.TRAINING: (S.AUDITING, S.MEASURING),
    S.AUDITING: (S.STAGING, S.INVERTING, S.MEASURING),
    S.STAGING: (S.LIVE, S.MEASURING),
    S.LIVE: (S.VERIFIED, S.INVERTING),
    S.VERIFIED: (S.CLOSED, S.INVERTING),
    S.CLOSED: (S.SUPPRESSED,),
    S.CANCELLED: (),
    S.FAILED: (S.SUPPRESSED, S.CANCELLED),
}

TRANSITIONS: Mapping[S, frozenset[S]] = MappingProxyType(
    {
        state: frozenset(onward)
        | (frozenset() if state.is_final or state.is_on_floor else {S.CANCELLED, S.FAILED})
        for state, onward in _FORWARD.items()
    }
)

# The states in which an erasure needs the versions being served to stand still, so one erasure at a time.
EXCLUSIVE = frozenset((S.INVERTING, S.MEASURING, S.TRAINING, S.AUDITING, S.STAGING))


def require_allowed(erasure_id: str, current: S, following: S) -> None:
    """Refuse a transition that the table does not hold.

    Raises:
        FailedPrecondition: names both states and what could follow.
    """
    if following not in TRANSITIONS[current]:
        possible = ", ".join(sorted(state.value for state in TRANSITIONS[current])) or "nothing"
        raise FailedPrecondition(
            f"erasure {erasure_id} is {current.value} and can't become {following.value}; next: {possible}",
            reason="TRANSITION_NOT_ALLOWED",
        )
