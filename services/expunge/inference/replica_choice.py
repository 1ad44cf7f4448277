"""Which engine replica a request goes to, as a pure function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from expunge.inference.placement import Placement


@dataclass(frozen=True)
class Candidate:
    """One live replica.

    Attributes:
        ongoing: requests that it has, running or waiting.
        staged: versions it last said it holds; None before it has said anything: a replica that is new
            has all that were wanted when it started.
    """

    name: str
    ongoing: int
    staged: frozenset[str] | None


def by_preference(
    candidates: Sequence[Candidate],
    version: str,
    placement: Placement,
    matches: Mapping[str, int],
    slack: int,
    random: Random,
) -> list[str]:
    """Names of the replicas that may be asked, best first.

    Those that hold `version` come first; then those that said they don't, which is a moment old; then the
    avoided. Whoever is left out is in no place. Among those that hold the version, the
    first is the one that was sent the longest beginning of the prompt, unless it has over `slack` requests
    more than the least busy of them; without one, the less busy of two taken at random. All others follow
    by how busy they are.

    Args:
        matches: how many blocks of the prompt's beginning a replica was sent before.
    """
    allowed = [one for one in candidates if one.name not in placement.left_out]
    welcome = [one for one in allowed if one.name not in placement.avoided]
    holders = [one for one in welcome if one.staged is None or version in one.staged]
    others = [one for one in welcome if one not in holders]
    avoided = [one for one in allowed if one.name in placement.avoided]
    best = next((group for group in (holders, others, avoided) if group), [])
    first = _first(best, matches, slack, random)
    rest = [one for group in (holders, others, avoided) for one in sorted(group, key=_ongoing)]
    return [one.name for one in (*first, *(one for one in rest if one not in first))]


def _first(
    group: Sequence[Candidate], matches: Mapping[str, int], slack: int, random: Random
) -> Sequence[Candidate]:
    if not group:
        return ()
    most = min(one.ongoing for one in group) + slack
    with_prefix = [one for one in group if one.name in matches and one.ongoing <= most]
    if with_prefix:
        return (max(with_prefix, key=lambda one: (matches[one.name], -one.ongoing)),)
    return (min(random.sample(group, min(2, len(group))), key=_ongoing),)


def _ongoing(candidate: Candidate) -> int:
    return candidate.ongoing
