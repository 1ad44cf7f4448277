"""How a gateway leaves: what outlives the grace is told so; what ends within it is not disturbed."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from expunge.rpc.inference.v1 import inference_pb2 as pb
from gateway.test_admission import details, staged
from gateway.trailers import Trailers


async def test_a_stream_that_outlives_the_grace_ends_in_unavailable(tmp_path: Path) -> None:
    async with staged(tmp_path, {"alice": {}}) as stage:
        stream = stage.stream("alice")
        await stage.engine.holds(1)
        stage.engine.rows[0].give(1)
        assert isinstance(await stream.read(), pb.GenerateStreamResponse)
        await stage.gateway.drain(notice_s=0.0, grace_s=0.05)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.read()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert details(Trailers(caught.value))["ErrorInfo"].reason == "DRAINING"
        await stage.engine.holds(0)
