"""The load as a process of its own, against a real server that follows a script."""

from __future__ import annotations

import pytest
from client.scripted_service import Script, chunk, serving

from expunge import errors
from expunge.benchmarks.serving.driver import Driver
from expunge.benchmarks.serving.plan import Ask, Plan, Target, TargetKind
from expunge.errors import Unavailable
from expunge.rpc.inference.v1 import inference_pb2 as pb

ANSWER = [chunk("a"), chunk("b", pb.FINISH_REASON_LENGTH)]
END = 2


def plan(count: int, streams: int) -> Plan:
    return Plan(tuple(Ask("bench-a", f"prompt {number}", 2) for number in range(count)), streams=streams)


def test_every_request_of_every_plan_is_sent_and_answered() -> None:
    script = Script([ANSWER] * 9)
    with serving(script) as address:
        target = Target(TargetKind.EXPUNGE, address, "secret", end_tokens=(END,))
        with Driver(target) as driver:
            closed = driver.run(plan(6, streams=2))
            opened = driver.run(Plan(plan(3, 0).asks, gaps_s=(0.0, 0.01, 0.01)))
    assert [one.error for one in (*closed, *opened)] == [""] * 9
    assert {one.tokens for one in closed} == {2}
    assert {one.versions for one in closed} == {("v1",)}
    assert {one.prompt_tokens for one in closed} == {3}
    assert all(one.sent <= one.arrivals[0][0] <= one.arrivals[1][0] <= one.done for one in closed)
    assert {request.prompt for request in script.asked[:6]} == {f"prompt {number}" for number in range(6)}
    assert {request.alias for request in script.asked} == {"bench-a"}
    assert {request.sampling.logit_bias[END] for request in script.asked} == {-100.0}
    assert {sent["authorization"] for sent in script.metadata} == {"Bearer secret"}


def test_a_failure_is_counted_and_not_sent_again() -> None:
    script = Script([[errors.Unavailable("draining")], [chunk("a"), errors.DataLoss("odd")], ANSWER])
    with serving(script) as address, Driver(Target(TargetKind.EXPUNGE, address)) as driver:
        responses = driver.run(plan(3, streams=1))
    assert [one.error for one in responses] == ["UNAVAILABLE: draining", "DATA_LOSS: odd", ""]
    assert len(script.asked) == 3


def test_a_load_process_that_can_not_start_is_told() -> None:
    settings = {"model": "/nowhere/at/all"}
    with (
        pytest.raises(Unavailable, match="ended with exit code"),
        Driver(Target(TargetKind.ENGINE, settings=settings)),
    ):
        pass


def test_a_flood_goes_on_until_it_is_ended_and_asks_again_when_it_is_refused() -> None:
    script = Script([ANSWER, [errors.Overloaded("full")]] * 2000)
    with serving(script) as address, Driver(Target(TargetKind.EXPUNGE, address)) as driver:
        asks = plan(3, streams=2).asks
        driver.begin(Plan(asks, streams=2, is_endless=True))
        responses = driver.end()
        again = driver.run(plan(2, streams=1))
    assert len(script.asked) >= 2
    assert {one.error for one in responses} <= {"", "RESOURCE_EXHAUSTED: full"}
    assert len(again) == 2
