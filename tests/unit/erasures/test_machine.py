import pytest

from expunge.erasures.machine import EXCLUSIVE, TRANSITIONS, require_allowed
from expunge.errors import FailedPrecondition
from expunge.registry.records import ErasureState as S


def test_every_state_has_its_row() -> None:
    assert set(TRANSITIONS) == set(S)


def test_cancelled_follows_any_state_before_live_and_none_after() -> None:
    before_live = {state for state in S if not state.is_final and not state.is_on_floor}
    assert {state for state in S if S.CANCELLED in TRANSITIONS[state]} == before_live | {S.FAILED}


def test_failed_follows_every_state_before_live() -> None:
    before_live = {state for state in S if not state.is_final and not state.is_on_floor}
    assert {state for state in S if S.FAILED in TRANSITIONS[state]} == before_live


def test_only_staging_leads_to_live_and_only_verified_to_closed() -> None:
    assert {state for state in S if S.LIVE in TRANSITIONS[state]} == {S.STAGING}
    assert {state for state in S if S.CLOSED in TRANSITIONS[state]} == {S.VERIFIED}


def test_closed_can_be_reached_from_every_state_under_way() -> None:
    reachable = {S.CLOSED}
    while grown := {s for s in S if s not in reachable and TRANSITIONS[s] & reachable}:
        reachable |= grown
    assert reachable == set(S) - {S.CANCELLED}


def test_no_state_on_the_floor_is_exclusive() -> None:
    assert not any(state.is_on_floor or state.is_final for state in EXCLUSIVE)


def test_a_forbidden_transition_names_what_could_follow() -> None:
    require_allowed("e1", S.STAGING, S.LIVE)
    with pytest.raises(FailedPrecondition, match=r"e1 is live and can't become cancelled.*inverting"):
        require_allowed("e1", S.LIVE, S.CANCELLED)
