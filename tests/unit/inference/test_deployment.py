"""What a replica does with requests for versions that it does not hold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest

from expunge.config import Settings
from expunge.errors import Unavailable
from expunge.inference.client import EngineClient
from expunge.inference.deployment import EngineDeployment
from expunge.inference.placement import Placement
from expunge.inference.request import GenerationRequest
from expunge.inference.version_follower import VersionFollower

from .replica import Pause, Replica, Script, following, snapshot, soon


class OneReplica:
    """The deployment's handle without Serve's routing: the one replica that it leads to is real."""

    def __init__(self, replica: Replica) -> None:
        parts = {
            "_engine": replica.engine,
            "_follower": replica.follower,
            "_settings": Settings(),
            "_member": "engine-0",
        }
        self._deployment = SimpleNamespace(**parts)  # its constructor needs Serve
        self.asked = 0
        self.generate = self

    def options(self, *, stream: bool) -> OneReplica:
        return self

    def remote(self, request: GenerationRequest, placement: Placement) -> OneReplica:
        self.asked += 1
        self._answer = EngineDeployment.generate(self._deployment, request, placement)  # type: ignore[arg-type]
        return self

    def __aiter__(self) -> AsyncIterator[object]:
        return aiter(self._answer)

    def cancel(self) -> None: ...


async def test_a_request_that_is_ahead_of_its_version_waits_for_it(replica: Replica) -> None:
    follower = replica.follower = VersionFollower(
        Script(snapshot(1, replica.base)),
        *(replica.engine, replica.blobs, "engine-0", replica.folder),
        staging_wait_s=60.0,
    )
    handle = OneReplica(replica)
    async with following(replica):
        await soon(follower.ready())
        request = GenerationRequest("early", replica.good.id, prompt="The", max_tokens=1)
        answer = asyncio.ensure_future(anext(EngineClient(handle).generate(request)))  # type: ignore[arg-type]
        await asyncio.wait({answer}, timeout=0)
        follower._follow(snapshot(2, replica.base, replica.good))
        await soon(answer)
        assert answer.result().version == replica.good.id
        assert handle.asked == 1


async def test_a_version_that_no_replica_ever_gets_is_unavailable_in_bounded_time(replica: Replica) -> None:
    replica.follower = VersionFollower(
        Script(snapshot(1, replica.base)),
        *(replica.engine, replica.blobs, "engine-0", replica.folder),
        staging_wait_s=0.05,
    )
    handle = OneReplica(replica)
    async with following(replica):
        await soon(replica.follower.ready())
        request = GenerationRequest("never", "sha256:none", prompt="The", max_tokens=1)
        with pytest.raises(Unavailable) as caught:
            await soon(anext(EngineClient(handle).generate(request)))  # type: ignore[arg-type]
        assert (caught.value.reason, caught.value.retry_after_s) == ("VERSION_NOT_STAGED", 1.0)
        assert handle.asked == 3


async def test_a_call_routed_to_a_version_that_was_unloaded_is_unavailable(replica: Replica) -> None:
    """A gateway that was cut off does that for the rest of its lease."""
    script, linger = Script(snapshot(1, replica.base, replica.good)), Pause()
    linger.over.set()
    replica.follower = VersionFollower(
        *(script, replica.engine, replica.blobs, "engine-0", replica.folder),
        staging_wait_s=0.05,
        sleep=linger,
    )
    async with following(replica):
        await soon(script.until(1, {replica.base.id, replica.good.id}, set()))
        replica.follower._follow(snapshot(2, replica.good))
        await soon(script.until(2, {replica.good.id}, set()))
        request = GenerationRequest("stale", replica.base.id, prompt="The", max_tokens=1)
        with pytest.raises(Unavailable):
            await soon(anext(EngineClient(OneReplica(replica)).generate(request)))  # type: ignore[arg-type]
