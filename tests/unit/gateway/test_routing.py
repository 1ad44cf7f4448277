"""From alias to version."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge.errors import NotFound
from expunge.gateway.routing import resolve
from expunge.registry.canary import CanarySpec
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


@given(
    principals=st.lists(st.text(max_size=20), min_size=1, max_size=20),
    steps=st.sets(st.integers(1, 99), min_size=1, max_size=6),
)
def test_step_by_step_principals_move_to_the_canary_only_and_never_back(
    principals: list[str], steps: set[int]
) -> None:
    spec = CanarySpec(steps=(*sorted(steps), 100))
    moved: set[str] = set()
    for step in range(len(spec.steps)):
        rollouts = {"default": Rollout("default", step + 1, spec.targets(step, "new", "old"))}
        on_canary = {one for one in principals if resolve(rollouts, "default", one).version == "new"}
        assert moved <= on_canary
        moved = on_canary
    assert moved == set(principals)


def test_every_gateway_process_chooses_alike() -> None:
    """Python's own hash differs from process to process; the choice must not."""
    code = (
        "from expunge.gateway.routing import resolve\n"
        "from expunge.registry.records import Rollout, Target\n"
        "rollouts = {'default': Rollout('default', 7, (Target('old', 50), Target('new', 50)))}\n"
        "print(''.join(resolve(rollouts, 'default', f'principal-{n}').version[0] for n in range(200)))"
    )
    here = "".join(resolve(canary(50), "default", name).version[0] for name in PRINCIPALS[:200])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == here


def test_an_unknown_alias_is_not_found() -> None:
    with pytest.raises(NotFound, match="other"):
        resolve(canary(10), "other", "anyone")
