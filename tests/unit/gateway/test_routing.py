"""From alias to version."""

from __future__ import annotations

import pytest

from expunge.errors import NotFound
from expunge.gateway.routing import resolve
from expunge.registry.records import Rollout, Target

PRINCIPALS = [f"principal-{number}" for number in range(2000)]


def canary(weight: int) -> dict[str, Rollout]:
    return {"default": Rollout("default", 7, (Target("old", 100 - weight), Target("new", weight)))}


def test_one_target_gets_everything() -> None:
    rollouts = {"default": Rollout("default", 3, (Target("only"),))}
    routes = {resolve(rollouts, "default", principal) for principal in PRINCIPALS}
    assert {(route.version, route.generation) for route in routes} == {("only", 3)}


def test_weights_hold_over_many_principals() -> None:
    new = sum(resolve(canary(25), "default", principal).version == "new" for principal in PRINCIPALS)
    assert 0.2 < new / len(PRINCIPALS) < 0.3


def test_a_principal_stays_on_its_side_as_the_canary_grows() -> None:
    for principal in PRINCIPALS:
        if resolve(canary(10), "default", principal).version == "new":
            assert resolve(canary(60), "default", principal).version == "new"


def test_an_unknown_alias_is_not_found() -> None:
    with pytest.raises(NotFound, match="other"):
        resolve(canary(10), "other", "anyone")
