"""The order in which replicas are asked."""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from expunge.inference.placement import Placement
from expunge.inference.replica_choice import Candidate, by_preference

NAMES = "abcdef"
HOLDS, LACKS = frozenset({"v"}), frozenset({"w"})
SOME = st.frozensets(st.sampled_from(NAMES))
CANDIDATES = st.lists(
    st.builds(Candidate, st.sampled_from(NAMES), st.integers(0, 40), st.sampled_from([HOLDS, LACKS, None])),
    unique_by=lambda one: one.name,
)
PLACEMENTS = st.builds(Placement, SOME, SOME)
MATCHES = st.dictionaries(st.sampled_from(NAMES), st.integers(1, 64))


def order(
    candidates: list[Candidate],
    placement: Placement | None = None,
    matches: dict[str, int] | None = None,
    slack: int = 8,
    seed: int = 0,
) -> list[str]:
    return by_preference(candidates, "v", placement or Placement(), matches or {}, slack, Random(seed))


@given(CANDIDATES, PLACEMENTS, MATCHES, st.integers(0, 10), st.integers())
def test_everybody_who_may_be_asked_is_named_once_and_nobody_else(
    candidates: list[Candidate], placement: Placement, matches: dict[str, int], slack: int, seed: int
) -> None:
    names = order(candidates, placement, matches, slack, seed)
    assert sorted(names) == sorted({one.name for one in candidates} - placement.left_out)


@given(CANDIDATES, PLACEMENTS, MATCHES, st.integers(0, 10), st.integers())
def test_who_holds_the_version_comes_before_who_does_not_and_the_avoided_come_last(
    candidates: list[Candidate], placement: Placement, matches: dict[str, int], slack: int, seed: int
) -> None:
    staged = {one.name: one.staged for one in candidates}
    ranks = [
        2 if name in placement.avoided else int(staged[name] == LACKS)
        for name in order(candidates, placement, matches, slack, seed)
    ]
    assert ranks == sorted(ranks)


@given(CANDIDATES, MATCHES, st.integers(0, 10), st.integers())
def test_the_first_never_has_more_than_the_slack_above_the_least_busy_for_its_prefix(
    candidates: list[Candidate], matches: dict[str, int], slack: int, seed: int
) -> None:
    names = order(candidates, None, matches, slack, seed)
    group = [one for one in candidates if one.staged != LACKS] or candidates
    near = {one.name for one in group if one.ongoing <= min(one.ongoing for one in group) + slack}
    known = near & matches.keys()
    if known:
        assert names[0] in known
        assert matches[names[0]] == max(matches[name] for name in known)


def test_the_longest_beginning_wins_and_among_equals_the_less_busy() -> None:
    three = [Candidate("a", 3, HOLDS), Candidate("b", 2, HOLDS), Candidate("c", 0, HOLDS)]
    assert order(three, matches={"a": 4, "b": 3})[0] == "a"
    assert order(three, matches={"a": 4, "b": 4})[0] == "b"


def test_a_replica_with_the_prefix_that_is_much_busier_is_passed_over() -> None:
    two = [Candidate("a", 9, HOLDS), Candidate("b", 0, HOLDS)]
    assert order(two, matches={"a": 4}, slack=9)[0] == "a"
    assert order(two, matches={"a": 4}, slack=8)[0] == "b"


def test_without_a_prefix_the_less_busy_of_two_is_taken() -> None:
    three = [Candidate("a", 5, HOLDS), Candidate("b", 1, HOLDS), Candidate("c", 3, HOLDS)]
    first = Counter(order(three, seed=seed)[0] for seed in range(300))
    assert first["a"] == 0
    assert first["b"] > first["c"] > 0


def test_equally_busy_replicas_share_evenly() -> None:
    two = [Candidate("a", 0, HOLDS), Candidate("b", 0, HOLDS)]
    first = Counter(order(two, seed=seed)[0] for seed in range(400))
    assert min(first.values()) > 150


def test_where_everybody_is_left_out_nobody_is_asked() -> None:
    assert order([Candidate("a", 0, HOLDS)], Placement(left_out=frozenset("a"))) == []
