"""What runs when the lease ends is ended: a guard may have been confirmed without this gateway."""

from __future__ import annotations

import asyncio
import itertools
import time

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from expunge.errors import Unavailable
from expunge.gateway.follower import lease_expired
from expunge.gateway.guards import Scope
from expunge.gateway.running import RunningRequests
from expunge.rpc.inference.v1 import inference_pb2 as pb
from expunge.rpc.inference.v1.inference_pb2_grpc import InferenceServiceStub
from gateway.conftest import LiveGateway, bearer
from gateway.trailers import Trailers

CLIENT = bearer("client")


@pytest.mark.asyncio(loop_scope="module")
async def test_a_running_stream_ends_with_the_lease(
    live: LiveGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = pb.Sampling(temperature=2.0, seed=1)
    request = pb.GenerateStreamRequest(prompt="Tell me of clocks.", max_tokens=1500, sampling=endless)
    stream = aiter(InferenceServiceStub(live.inference).GenerateStream(request, metadata=CLIENT))
    assert (await anext(stream)).text
    follower = live.gateway.follower
    with monkeypatch.context() as patch:
        patch.setattr(follower, "_clock", lambda: time.monotonic() + 2 * live.settings.lease_s)
        follower._end_lease()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in stream:
            pass
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    status = rpc_status.from_call(Trailers(caught.value))
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.reason == "LEASE_EXPIRED"


@pytest.mark.asyncio(loop_scope="module")
async def test_a_lease_that_ends_while_readiness_is_asked_for_is_no_error(
    live: LiveGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()
    times = itertools.chain([now], itertools.repeat(now + 2 * live.settings.lease_s))
    with monkeypatch.context() as patch:
        patch.setattr(live.gateway.follower, "_clock", lambda: next(times))
        assert [live.gateway.is_ready for _ in range(2)][-1] is False


async def test_everything_under_way_is_ended_with_an_error_of_its_own() -> None:
    running = RunningRequests()
    with running.entered(Scope("a"), "v") as first, running.entered(Scope("b"), "v") as second:
        outcomes = [asyncio.ensure_future(one.outcome(asyncio.Event().wait())) for one in (first, second)]
        await asyncio.wait(outcomes, timeout=0)
        assert running.stop_all(lease_expired) == 2
        errors = await asyncio.wait_for(asyncio.gather(*outcomes, return_exceptions=True), 5)
    assert [type(error) for error in errors] == [Unavailable, Unavailable]
    assert errors[0] is not errors[1]
    assert running.stop_all(lease_expired) == 0
