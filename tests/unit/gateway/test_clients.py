"""Who may take how much of a gateway."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge.errors import Overloaded
from expunge.gateway.clients import Clients
from expunge.gateway.demand import Demand
from expunge.gateway.quotas import Quota
from gateway.hand_clock import HandClock

ONE = Demand(prompt_tokens=10, max_tokens=90)
UNLIMITED = Quota(max_concurrent=10_000)


def taken(clients: Clients, name: str, quota: Quota = UNLIMITED) -> int:
    """How many requests `name` can begin before it is refused."""
    count = 0
    while True:
        try:
            clients.take(name, quota, ONE)
        except Overloaded:
            return count
        count += 1


def test_a_client_has_no_more_under_way_than_its_quota() -> None:
    clients = Clients(100, HandClock())
    assert taken(clients, "alice", Quota(max_concurrent=3)) == 3
    with pytest.raises(Overloaded) as caught:
        clients.take("alice", Quota(max_concurrent=3), ONE)
    assert caught.value.reason == "CONCURRENCY_QUOTA"
    assert caught.value.metadata == {"subject": "client:alice", "quota": "max_concurrent", "limit": "3"}
    assert caught.value.retry_after_s == 1
    clients.release("alice", ONE, used_tokens=0)
    clients.take("alice", Quota(max_concurrent=3), ONE)


def test_several_answers_take_several_places() -> None:
    clients, quota = Clients(100, HandClock()), Quota(max_concurrent=5)
    three = Demand(prompt_tokens=1, max_tokens=1, answers=3)
    clients.take("alice", quota, three)
    assert clients.held_by("alice") == 3
    with pytest.raises(Overloaded, match="has 3 answers under way"):
        clients.take("alice", quota, three)
    clients.release("alice", three, used_tokens=0)
    assert (clients.held_by("alice"), clients.held) == (0, 0)


def test_what_can_never_fit_is_refused_without_a_time_to_try_again() -> None:
    clients = Clients(100, HandClock())
    for quota, demand, named in (
        (Quota(max_concurrent=2), Demand(1, 1, answers=3), "max_concurrent"),
        (Quota(tokens_per_minute=6000, burst_tokens=50), ONE, "burst_tokens"),
    ):
        with pytest.raises(Overloaded, match=named) as caught:
            clients.take("alice", quota, demand)
        assert caught.value.reason == "REQUEST_ABOVE_QUOTA"
        assert caught.value.retry_after_s is None
    assert clients.held == 0


def test_a_client_that_uses_up_its_tokens_is_told_when_there_are_enough_again() -> None:
    clock = HandClock()
    clients, quota = Clients(100, clock), Quota(tokens_per_minute=600, burst_tokens=250)
    assert taken(clients, "alice", quota) == 2
    with pytest.raises(Overloaded) as caught:
        clients.take("alice", quota, ONE)
    assert caught.value.reason == "TOKEN_QUOTA"
    assert caught.value.metadata["quota"] == "tokens_per_minute"
    assert caught.value.metadata["limit"] == "600"
    assert caught.value.retry_after_s == pytest.approx(5)
    clock.pass_by(5.001)
    clients.take("alice", quota, ONE)


def test_tokens_that_were_reserved_and_not_used_can_be_taken_again() -> None:
    clients, quota = Clients(100, HandClock()), Quota(tokens_per_minute=60, burst_tokens=100)
    clients.take("alice", quota, ONE)
    clients.release("alice", ONE, used_tokens=0)
    clients.take("alice", quota, ONE)
    clients.release("alice", ONE, used_tokens=1)
    with pytest.raises(Overloaded, match="has 99 tokens left"):
        clients.take("alice", quota, ONE)


def test_a_client_alone_leaves_half_of_the_places_free() -> None:
    clients = Clients(64, HandClock())
    assert taken(clients, "flood") == 32
    assert taken(clients, "quiet", Quota(max_concurrent=8)) == 8


def test_two_that_take_what_they_can_leave_places_for_a_third() -> None:
    clients = Clients(60, HandClock())
    names = ("one", "two")
    while any(can_take(clients, name) for name in names):
        for name in names:
            if can_take(clients, name):
                clients.take(name, UNLIMITED, ONE)
    assert [clients.held_by(name) for name in names] == [20, 20]
    assert can_take(clients, "three")
    with pytest.raises(Overloaded) as caught:
        clients.take("one", UNLIMITED, ONE)
    assert caught.value.reason == "GATEWAY_FULL"
    assert caught.value.metadata["quota"] == "max_requests"


def test_places_that_a_flood_gives_back_are_for_others_until_it_holds_no_more_than_is_free() -> None:
    clients = Clients(60, HandClock())
    assert (taken(clients, "flood"), taken(clients, "other")) == (30, 15)
    for _ in range(7):
        clients.release("flood", ONE, used_tokens=1)
        assert not can_take(clients, "flood")
        assert can_take(clients, "third")
    clients.release("flood", ONE, used_tokens=1)
    assert can_take(clients, "flood")


@given(
    places=st.integers(2, 50),
    calls=st.lists(st.tuples(st.sampled_from("abcde"), st.booleans(), st.integers(1, 4)), max_size=200),
)
def test_places_are_neither_lost_nor_made(places: int, calls: list[tuple[str, bool, int]]) -> None:
    clients = Clients(places, HandClock())
    under_way: list[tuple[str, Demand]] = []
    for name, begins, answers in calls:
        if begins:
            demand = Demand(1, 1, answers)
            try:
                clients.take(name, UNLIMITED, demand)
            except Overloaded:
                continue
            under_way.append((name, demand))
        elif under_way:
            ended, demand = under_way.pop(0)
            clients.release(ended, demand, used_tokens=1)
        assert clients.held == sum(demand.answers for _, demand in under_way) <= places
        for each in "abcde":
            assert clients.held_by(each) == sum(
                demand.answers for ended, demand in under_way if ended == each
            )


def can_take(clients: Clients, name: str) -> bool:
    try:
        clients.take(name, UNLIMITED, ONE)
    except Overloaded:
        return False
    clients.release(name, ONE, used_tokens=0)
    return True
