"""From an alias to one version, once for each request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from expunge.errors import NotFound
from expunge.registry.records import Rollout, Target


@dataclass(frozen=True)
class Route:
    """The version that one request runs on from its first token to its last."""

    alias: str
    version: str
    generation: int


def resolve(rollouts: Mapping[str, Rollout], alias: str, principal: str) -> Route:
    """The route of one request.

    Raises:
        NotFound: no such alias.
    """
    rollout = rollouts.get(alias)
    if rollout is None:
        raise NotFound(f"alias {alias!r} does not exist; ListModels names those that do")
    return Route(alias, _chosen(rollout, principal).version, rollout.generation)


def _chosen(rollout: Rollout, principal: str) -> Target:
    """The target whose weight interval holds the principal's point in [0, 100).

    The point depends on alias and principal only: a principal stays on its side of a canary, and as a later
    target's weight rises at the cost of an earlier one, principals move to it and never back.
    """
    digest = sha256(f"{rollout.alias}\0{principal}".encode()).digest()
    point = int.from_bytes(digest[:8]) * 100 / 2**64
    upper = 0
    for target in rollout.targets:
        upper += target.weight
        if point < upper:
            return target
    return rollout.targets[-1]
